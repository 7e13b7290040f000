package server

import (
	"context"
	"errors"
	"io"
	"net/http"

	"lambent"
	"lambent/api/aws"
	"lambent/auth"
	"lambent/bucket"
	"lambent/bucket/gateway"
	"lambent/guest/lambda"
	"lambent/queue"
	"lambent/source/object"
)

// eventRoom is how many bytes of disk uploads leave beyond what work that is accepted does, so
// that their events are.
const eventRoom = 1 << 20

// openBuckets settles what was under way in buckets. Triggers are there already.
func (s *Server) openBuckets(ctx context.Context) (err error) {
	s.buckets, err = bucket.Open(ctx, bucket.Options{
		Dir: s.path(bucketsDir), Source: s.objects, Program: s.cfg.Gateway, Stall: s.cfg.StallTimeout, Logger: s.log,
		Spare: func(bytes int64) error { return s.store.Spare("bucket", bytes+eventRoom) },
		Secret: func(project, key string) (string, error) {
			k, err := s.keys.AccessKey(key)
			if err == nil && !k.Who.Allows(project, auth.RoleAdmin) {
				err = lambent.Errorf(lambent.Forbidden, "auth", "access key %s is not for everything in project %s", key, project)
			}
			return k.Secret, err
		},
	})
	if err != nil {
		return err
	}
	s.objects.Exists = s.buckets.Exists
	s.onClose("buckets", s.buckets.Close)
	return nil
}

const bucketsDir = "buckets"

// s3 is what AWS's face of buckets stands on.
func (s *Server) s3() aws.Buckets {
	return aws.Buckets{
		Serve: s.buckets.Serve, Exists: s.buckets.Exists, Triggers: s.triggers, Queues: s.queues,
		Function: func(n lambent.Name) error {
			_, err := s.control.Resolve(n)
			return err
		},
	}
}

// notified are the queues that are sent what happens in a bucket.
func (s *Server) notified(project, bucket string) (all []object.Watcher) {
	for _, n := range s.queues.Notifications(project, bucket) {
		all = append(all, object.Watcher{ID: n.ID, Bucket: n.Bucket, Since: n.Since, Publish: func(ctx context.Context, events ...lambent.Event) error {
			var failed []error
			for i := range events {
				failed = append(failed, s.sendNotification(ctx, project, &n, &events[i]))
			}
			return errors.Join(failed...)
		}})
	}
	return all
}

// sendNotification sends one; published again, it is the same message. What the queue never
// takes is lost, as it is with S3: the upload is not to wait for that.
func (s *Server) sendNotification(ctx context.Context, project string, n *queue.Notification, e *lambent.Event) error {
	body, err := lambda.S3Notification(project, *e)
	if err != nil {
		return err
	}
	_, errs, err := s.queues.Send(ctx, project, n.Queue, queue.Message{
		Key: n.ID + " " + e.ID, Body: body, Delay: -1, Trace: lambent.XRay(e.Extensions[lambent.ExtensionTrace]), Hops: e.Hops,
	})
	if err = errors.Join(append(errs, err)...); lambent.Is(err, lambent.NotFound) || lambent.Is(err, lambent.Invalid) {
		s.log.Warn("a bucket's notification is lost: its queue does not take it", "project", project, "bucket", n.Bucket.Name, "queue", n.Queue, "err", err)
		return nil
	}
	return err
}

// serveBrowser answers browsers that come without a signature around their request: with a
// form that uploads a file, which is signed inside, or with the question whether a page may.
func (s *Server) serveBrowser(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request, func(string) (string, error)) error) {
	err := serve(w, r, func(key string) (string, error) {
		k, err := s.keys.AccessKey(key)
		return k.Who.Project, err
	})
	if err != nil {
		aws.Refuse(w, r, "s3", err)
	}
}

// Gateway is the process of one project's buckets, which lie in a directory; verb is how
// the program is run as that.
func Gateway(args, verb []string, in io.Reader, out io.WriteCloser) error {
	return gateway.Run(args, verb, in, out)
}
