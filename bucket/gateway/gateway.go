// Package gateway is the process that keeps the buckets of one project: an S3 server of
// files in a directory, by github.com/versity/versitygw, around which this package puts
// what that leaves open. It tells its server of each change before it happens and after
// (see [bucket.Link]), and it has an object on disk before anybody hears that it is
// there. It takes no key whose object would have another key's file, and sees no file but
// the project's own, where the kernel can see to that.
//
// It works by its current directory, and is not to be part of another process.
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3api"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"

	"lambent"
	"lambent/bucket"
)

const (
	maxConnections = 1024
	maxRequests    = 256 // at a time; more are told to slow down
	maxParts       = 10_000
	maxCopy        = 5 << 30 // bytes, as on AWS
	bufferSize     = 256 << 10
)

// A line is the connection to the server; its end is the gateway's.
type line struct {
	io.Reader
	io.WriteCloser
	once sync.Once
	gone chan struct{} // closed when it has ended
}

// Read implements io.Reader.
func (l *line) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err != nil {
		l.once.Do(func() { close(l.gone) })
	}
	return n, err
}

// Serve keeps the buckets of a project until the server, which it hears from in and
// answers to out, is gone.
func Serve(in io.Reader, out io.WriteCloser) error {
	os.Stdout = nil // versitygw says there what it does, and nobody asks
	l := &line{Reader: in, WriteCloser: out, gone: make(chan struct{})}
	link := bucket.NewLink(rpc.NewClient(l))
	setup, err := link.Setup()
	if err != nil {
		return err
	}
	unlock, err := lock(setup.Lock) // of the last one, which may still be about to end
	if err != nil {
		return err
	}
	defer unlock()
	attributes, sideCar, err := attributesOf(&setup)
	if err != nil {
		return err
	}
	files, err := posix.New(setup.Objects, attributes, posix.PosixOpts{
		VersioningDir: setup.Versions, SideCarDir: sideCar, IOBufferSize: bufferSize, Concurrency: maxRequests, CopyObjectThreshold: maxCopy,
	})
	if err != nil {
		return err
	}
	b := &watched{Posix: files, link: link}
	if err := b.settle(context.Background()); err != nil {
		return err
	}
	failed := make(chan error, 1)
	owner := auth.Account{Access: setup.Access, Secret: setup.Secret, Role: auth.RoleAdmin}
	s, err := s3api.New(b, middlewares.RootUserConfig{Access: owner.Access, Secret: owner.Secret}, setup.Region, &keys{IAMService: auth.NewIAMServiceSingle(owner), link: link}, nil, nil, nil, nil,
		s3api.WithQuiet(), s3api.WithKeepAlive(), s3api.WithDisableACL(), s3api.WithSocketPerm(0o600),
		s3api.WithConcurrencyLimiter(maxConnections, maxRequests), s3api.WithMpMaxParts(maxParts),
		s3api.WithMiddleware("/", remember),
		s3api.WithOnListen(func() {
			if err := link.Ready(); err != nil {
				failed <- err
			}
		}))
	if err != nil {
		return err
	}
	go func() { failed <- s.ServeMultiPort([]string{setup.Socket}) }()
	select {
	case err := <-failed:
		return err
	case <-l.gone: // so are the clients of what is under way: it is settled by the next one
		return nil
	}
}

// lock waits until this is the only gateway of the project.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// attributesOf is where the attributes of objects are: with the files or, on file systems
// that have no room for them there, in files of their own, for ever once there are some.
func attributesOf(s *bucket.Setup) (meta.MetadataStorer, string, error) {
	_, err := os.Stat(s.SideCar)
	if err != nil && (meta.XattrMeta{}).Test(s.Objects) == nil {
		return meta.XattrMeta{}, "", nil
	}
	if err := os.MkdirAll(s.SideCar, 0o700); err != nil {
		return nil, "", err
	}
	m, err := meta.NewSideCar(s.SideCar)
	return m, s.SideCar, err
}

// asker is the key of a request's context under which who it is from is remembered.
type asker struct{}

// A request is what events say of one.
type request struct {
	principal, remote, id string
	trace                 string
	hops                  int
	form                  bool
}

// remember keeps who a request is from.
func remember(ctx fiber.Ctx) error {
	hops, _ := strconv.Atoi(ctx.Get(bucket.HopsHeader)) // it is the server's
	ctx.Locals(asker{}, request{
		hops:      hops,
		trace:     lambent.Traceparent(cmp.Or(ctx.Get("X-Amzn-Trace-Id"), ctx.Get("Traceparent"))),
		principal: ctx.Get(bucket.PrincipalHeader), remote: ctx.Get(bucket.RemoteHeader), id: fmt.Sprint(utils.ContextKeyRequestID.Get(ctx)), form: ctx.Method() == fiber.MethodPost,
	})
	return ctx.Next()
}

// keys are the access keys of the project, which forms are signed with.
type keys struct {
	auth.IAMService
	link *bucket.Link
}

// GetUserAccount implements auth.IAMService.
func (k *keys) GetUserAccount(id string) (auth.Account, error) {
	secret, err := k.link.Key(id)
	if err != nil {
		if lambent.Is(err, lambent.Unauthenticated) || lambent.Is(err, lambent.Forbidden) {
			err = auth.ErrNoSuchUser
		}
		return auth.Account{}, err
	}
	return auth.Account{Access: id, Secret: secret, Role: auth.RoleAdmin}, nil
}

// Run is what the program does that is started as a gateway: with nothing but the
// project's directory as its arguments, it confines itself to that, where it can, and runs
// again, by verb; then, or where it cannot, it serves.
func Run(args, verb []string, in io.Reader, out io.WriteCloser) error {
	const confined = "confined"
	if len(args) == 1 {
		if err := Confine(args[0], append(verb, args[0], confined)); err != nil {
			return err
		}
	}
	return Serve(in, out)
}
