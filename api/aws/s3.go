package aws

import (
	"net/http"

	"lambent/auth"
)

// Objects is S3, by serve (see bucket.Buckets.Serve), for who may do everything in a project.
func Objects(serve func(w http.ResponseWriter, r *http.Request, project, accessKey string) error) Service {
	return func(w http.ResponseWriter, r *http.Request, who auth.Identity) error {
		if err := allow(who, auth.RoleAdmin); err != nil {
			return err
		}
		return serve(w, r, who.Project, who.Token)
	}
}
