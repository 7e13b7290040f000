package aws

import (
	"net/http"
	"strings"

	"lambent"
	"lambent/auth"
	"lambent/queue"
	"lambent/trigger"
)

// Buckets are what S3 is made of.
type Buckets struct {
	Serve    func(w http.ResponseWriter, r *http.Request, project, accessKey string, hops int) error // see bucket.Buckets.Serve
	Exists   func(project, bucket string) error                                                      // Kind: NotFound
	Triggers *trigger.Broker
	Queues   *queue.Queues
	Function func(lambent.Name) error // Kind: NotFound
}

// Objects is S3, for who may do everything in a project.
func Objects(b Buckets) Service {
	n := &notifications{Buckets: b}
	return func(w http.ResponseWriter, r *http.Request, who Caller) error {
		if err := allow(who, auth.RoleAdmin); err != nil {
			return err
		}
		name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if query := r.URL.Query(); key == "" && name != "" && query.Has("notification") {
			return n.serve(w, r, who.Project, name)
		}
		return b.Serve(w, r, who.Project, who.Token, who.Hops)
	}
}
