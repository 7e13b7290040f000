package bucket

import (
	"cmp"
	"net/http"
	"net/url"
	"os"
	"strings"

	"lambent"
)

// IsPreflight reports whether a browser asks what a page of another origin may do with a
// bucket, or with what is in it
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/cors.html).
func IsPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != "" && lambent.IsBucketName(bucketOf(r.URL))
}

func bucketOf(u *url.URL) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return name
}

// ServePreflight answers that as the bucket's CORS configuration has it; it is not signed.
// A presigned URL names an access key, of which project says whose it is. Before a form
// nothing says whose bucket is meant, and any project's of that name may allow the request:
// the form itself is signed, and only the bucket that it is for shows its page the answer.
// Of an error nothing was answered. Kind: Forbidden.
func (b *Buckets) ServePreflight(w http.ResponseWriter, r *http.Request, project func(accessKey string) (string, error)) error {
	name := bucketOf(r.URL)
	projects, err := b.projectsWith(name)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	credential, _, _ := strings.Cut(query.Get("X-Amz-Credential"), "/")
	if key := cmp.Or(credential, query.Get("AWSAccessKeyId")); key != "" {
		mine, err := project(key)
		if err != nil {
			return err
		}
		if projects = nil; b.Exists(mine, name) == nil {
			projects = []string{mine}
		}
	}
	ask := r.Clone(r.Context())
	ask.Body, ask.ContentLength = http.NoBody, 0
	for _, p := range projects {
		body := &body{in: http.NoBody, from: ask}
		a := &answer{header: http.Header{}}
		if err := b.pass(a, ask, b.outgoing(ask, "", 0, body), p, body, func(*gateway) error { return nil }); err != nil {
			return err
		}
		if a.status == http.StatusOK || a.status == http.StatusNoContent {
			for name, values := range a.header {
				w.Header()[name] = values
			}
			w.WriteHeader(a.status)
			return nil
		}
	}
	e := lambent.Errorf(lambent.Forbidden, "bucket", "no CORS configuration of a bucket %q allows pages of %.200q this request: it is put by PutBucketCors", name, r.Header.Get("Origin"))
	e.Reason = "AccessForbidden"
	return e
}

// projectsWith returns the projects that have a bucket of a name.
func (b *Buckets) projectsWith(name string) (all []string, err error) {
	projects, err := os.ReadDir(b.opts.Dir)
	if err != nil {
		return nil, fail(err)
	}
	for _, p := range projects {
		if b.Exists(p.Name(), name) == nil {
			all = append(all, p.Name())
		}
	}
	return all, nil
}

// An answer is kept until it is known whether it is the one that counts. It has no body
// that anybody reads.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }
