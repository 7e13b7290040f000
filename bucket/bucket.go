// Package bucket keeps the buckets of projects, and answers for them as S3 does.
//
// The work is a gateway's (package bucket/gateway): a process for each project whose
// buckets are in use, this program again, which sees that project's directory and
// nothing else, listens where only we can reach it, and ends when nobody needs it. This
// package starts and ends gateways, and passes on to them what it is told to be signed
// by a key of the project; bodies pass through as they come.
//
// What it guarantees: a project's names and objects are its own, whatever others call
// theirs. What changes is told to the source of events (package source/object) before it
// happens and after, and is acknowledged to the client behind that. An object that was
// acknowledged is on disk.
//
// What it does not do: it checks no signature but those of browsers' forms, which are in
// their bodies, and decides nobody's rights. Browsers' preflights have none.
package bucket

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lambent"
	"lambent/source/object"
)

// Options are what Buckets need. All are required but the last two.
type Options struct {
	Dir     string                                    // for buckets alone
	Source  *object.Source                            // which is opened on Dir
	Program []string                                  // that is run as a gateway, with arguments: see gateway.Serve
	Secret  func(project, key string) (string, error) // of an access key that may do everything in the project
	Spare   func(bytes int64) error                   // whether the disk has room for so much more; Kind: NoSpace
	Logger  *slog.Logger
	Stall   time.Duration // that a client may send or take nothing; 0: for ever
	Idle    time.Duration // after which a gateway that is not used ends; 0: five minutes
}

// Buckets are those of all projects. The methods may be called concurrently.
type Buckets struct {
	opts Options

	mu       sync.Mutex // guards what follows
	gateways map[string]*gateway
	uploads  int64 // bytes that uploads are promised
	closed   bool
}

// Open returns the buckets in a directory. What was under way in them when the server
// ended last is settled before it returns: whether it has happened, and its events.
func Open(ctx context.Context, o Options) (*Buckets, error) {
	if o.Idle == 0 {
		o.Idle = 5 * time.Minute
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fail(err)
	}
	b := &Buckets{opts: o, gateways: map[string]*gateway{}}
	projects, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, fail(err)
	}
	for _, p := range projects {
		pending, err := o.Source.Pending(p.Name())
		if err == nil && len(pending) > 0 {
			var g *gateway
			if g, err = b.use(ctx, p.Name()); err == nil { // it settles them before it is ready
				b.release(g)
			}
		}
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	return b, nil
}

// Close ends all gateways.
func (b *Buckets) Close() error {
	b.mu.Lock()
	b.closed = true
	all := make([]*gateway, 0, len(b.gateways))
	for _, g := range b.gateways {
		all = append(all, g)
	}
	b.mu.Unlock()
	for _, g := range all {
		g.end()
		<-g.done
	}
	return nil
}

// Exists returns nil if a project has a bucket. Kind: NotFound.
func (b *Buckets) Exists(project, name string) error {
	if lambent.IsBucketName(name) {
		switch _, err := os.Stat(b.opts.project(project, objectsDir, name)); {
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist):
			return fail(err)
		}
	}
	e := lambent.Errorf(lambent.NotFound, "bucket", "project %s has no bucket %.80q", project, name)
	e.Reason = "NoSuchBucket"
	return e
}

// use returns a project's gateway, which runs until it is released.
func (b *Buckets) use(ctx context.Context, project string) (*gateway, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, lambent.Errorf(lambent.Unavailable, "bucket", "the server is shutting down")
	}
	g := b.gateways[project]
	if g == nil {
		var err error
		if g, err = start(b, project); err != nil {
			b.mu.Unlock()
			return nil, fail(err)
		}
		b.gateways[project] = g
		go b.watch(g)
	}
	g.users++
	if g.idle != nil {
		g.idle.Stop()
	}
	b.mu.Unlock()
	select {
	case <-g.ready:
		return g, nil
	case <-g.done:
		b.release(g)
		return nil, lambent.Errorf(lambent.Unavailable, "bucket", "the gateway of project %s did not start: the server's log has what it said", project)
	case <-ctx.Done():
		b.release(g)
		return nil, lambent.Errorf(lambent.Canceled, "bucket", "given up: %w", ctx.Err())
	}
}

func (b *Buckets) release(g *gateway) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.users--; g.users > 0 {
		return
	}
	if g.idle != nil {
		g.idle.Reset(b.opts.Idle)
		return
	}
	g.idle = time.AfterFunc(b.opts.Idle, func() {
		b.mu.Lock()
		unused := g.users == 0
		if unused && b.gateways[g.project] == g {
			delete(b.gateways, g.project) // the next user starts another
		}
		b.mu.Unlock()
		if unused {
			g.end()
		}
	})
}

// watch waits for the end of a gateway, be it for want of users or not.
func (b *Buckets) watch(g *gateway) {
	g.wait()
	b.mu.Lock()
	if b.gateways[g.project] == g {
		delete(b.gateways, g.project)
	}
	if g.idle != nil {
		g.idle.Stop()
	}
	b.mu.Unlock()
	close(g.done)
}

// project is the directory of a project.
func (o *Options) project(name string, elem ...string) string {
	return filepath.Join(append([]string{o.Dir, name}, elem...)...)
}

func fail(err error) error {
	if _, ok := errors.AsType[*lambent.Error](err); ok {
		return err
	}
	return lambent.Errorf(lambent.Internal, "bucket", "%w", err)
}
