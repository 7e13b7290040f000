// Package server makes one lambent server out of the parts: it opens them in the
// order in which they need each other, plugs them together, serves the one port,
// and closes them in reverse. It is the only package that names implementations,
// and the only one below cmd that reads the environment.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/api/aws"
	v1 "lambent/api/v1"
	"lambent/api/web"
	"lambent/auth"
	"lambent/bucket"
	"lambent/bundle"
	"lambent/control"
	"lambent/control/build"
	"lambent/dispatch"
	"lambent/guest"
	"lambent/guest/gcf"
	"lambent/guest/lambda"
	"lambent/internal/http1"
	"lambent/internal/intake"
	"lambent/internal/telemetry"
	"lambent/logs"
	"lambent/meter"
	"lambent/queue"
	"lambent/runtimes"
	"lambent/runtimes/rootfs"
	"lambent/sandbox"
	"lambent/source/object"
	"lambent/store"
	"lambent/trigger"
)

// A Server is a running server.
type Server struct {
	cfg      Config
	limits   lambent.Limits
	started  time.Time
	listener net.Listener
	tls      *tls.Config // nil: plain HTTP
	hosts    []string    // that clients may call us by
	log      *slog.Logger

	store   *store.Store
	code    *bundle.Store
	builder *build.Builder
	python  *byteCode
	roots   *rootfs.Store
	catalog *catalog
	logs    *logs.Logs
	ledger  *meter.Ledger
	keys    *auth.Keys
	metrics *telemetry.Metrics
	driver  sandbox.Driver

	driverName string                      // as --driver names it
	agents     string                      // where functions' sandboxes see the agents
	accepts    func(lambent.Runtime) error // why the driver cannot run a runtime; nil: it runs all
	guests     map[string]guest.Guest
	dispatch   *dispatch.Dispatcher
	control    *control.Control
	queue      *store.Queue
	triggers   *trigger.Broker
	objects    *object.Source
	buckets    *bucket.Buckets
	queues     *queue.Queues
	web        *web.Face
	aws        *aws.Face
	api        http.Handler
	front      *http1.Server // of calls
	http       *http.Server  // of all else
	rest       *handed       // what front leaves to http

	processors *processors // nil: all of them, always

	background context.Context // ends with stop
	stop       context.CancelFunc
	running    sync.WaitGroup // what runs in the background
	opened     chan struct{}  // closed when Open has done all
	closing    chan struct{}  // closed when Close begins
	serving    sync.RWMutex   // held for reading by each request, and by Close to wait for the last
	closers    []closer       // in the order of opening
}

// A closer gives back one part.
type closer struct {
	name  string
	close func() error
}

// Open starts everything but the serving: when it returns, a request that comes
// is answered as soon as Serve runs. On failure nothing is left open.
func Open(ctx context.Context, cfg Config) (_ *Server, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, limits: lambent.DefaultLimits(), started: time.Now(), log: cfg.Logger, opened: make(chan struct{}), closing: make(chan struct{})}
	s.background, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeAll())
		}
	}()
	for _, step := range []struct {
		name string
		open func(context.Context) error
	}{
		{"port", s.openPort}, {"store", s.openStore}, {"files", s.openFiles}, {"driver", s.openDriver},
		{"runtimes", s.openRuntimes}, {"builds", s.openBuilds}, {"dispatch", s.openDispatch}, {"control", s.openControl}, {"queues", s.openQueues}, {"triggers", s.openTriggers}, {"buckets", s.openBuckets}, {"faces", s.openFaces},
		{"processors", s.openProcessors},
	} {
		begun := time.Now()
		if err := step.open(ctx); err != nil {
			return nil, err
		}
		s.log.Debug("opened", "part", step.name, "took", time.Since(begun))
	}
	close(s.opened)
	s.running.Go(func() { s.collect(s.background) })
	s.running.Go(func() { s.compile(s.background) })
	s.running.Go(func() { s.sweep(s.background) })
	s.running.Go(func() { s.keepLearnt(s.background) })
	if s.tls == nil {
		s.running.Go(func() { _ = s.http.Serve(s.rest) }) // of what Serve's front hands over, until Close
	}
	return s, nil
}

func (s *Server) onClose(name string, close func() error) {
	s.closers = append(s.closers, closer{name, close})
}

// openPort takes the port first: a second server is to fail before it touches
// anything.
func (s *Server) openPort(context.Context) (err error) {
	if s.tls, err = certificate(&s.cfg); err != nil {
		return err
	}
	l := s.cfg.listener
	if l == nil {
		if l, err = listen(s.cfg.Listen); err != nil {
			return err
		}
	}
	s.listener = l
	s.onClose("port", func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	host, _, _ := net.SplitHostPort(s.cfg.Listen)
	s.hosts = append([]string{"localhost", "127.0.0.1", "::1"}, s.cfg.Hosts...)
	if host != "" && host != "0.0.0.0" && host != "::" {
		s.hosts = append(s.hosts, host)
	}
	for i, h := range s.hosts {
		s.hosts[i] = strings.ToLower(h)
	}
	return nil
}

// openStore takes the data directory, which the store locks.
func (s *Server) openStore(ctx context.Context) (err error) {
	if err := prepareData(s.cfg.Data); err != nil {
		return err
	}
	if s.store, err = store.Open(ctx, store.Options{Dir: s.cfg.Data, Log: s.log}); err != nil {
		return err
	}
	s.onClose("store", s.store.Close)
	return s.store.Announce(s.Addr())
}

// openFiles opens what is kept in files beside the store.
func (s *Server) openFiles(context.Context) (err error) {
	if s.code, err = bundle.Open(s.path("code"), s.limits); err != nil {
		return err
	}
	if s.logs, err = logs.Open(logs.Options{Dir: s.path("logs"), Logger: s.log}); err != nil {
		return err
	}
	s.onClose("logs", s.logs.Close)
	if s.ledger, err = meter.Open(meter.Options{Dir: s.path("ledger"), Logger: s.log}); err != nil {
		return err
	}
	s.onClose("ledger", s.ledger.Close)
	s.keys, err = auth.Open(s.cfg.Data)
	return err
}

func (s *Server) path(elem ...string) string {
	return filepath.Join(append([]string{s.cfg.Data}, elem...)...)
}

// canRun refuses what would not be as its owner says. A network that nobody holds
// a function to is worse than none.
func (s *Server) canRun(c *lambent.Config) error {
	if err := s.canHold(c.Network); err != nil {
		return err
	}
	rt, err := s.runtime(c.Runtime)
	if err != nil {
		return err
	}
	if g, ok := s.guests[rt.Guest].(guest.Checker); ok {
		return g.Check(c, rt)
	}
	return nil
}

// canHold is about the network alone.
func (s *Server) canHold(n lambent.Network) error {
	if s.driverName == driverProcess && !n.Or(nil).IsDefault() {
		return lambent.Errorf(lambent.Unsupported, "serve", "network %q: the driver process does not isolate, and cannot hold a function to it", n).
			WithHint("lambent serve --driver namespace   (on Linux, as root)")
	}
	return nil
}

// streams reports whether a revision's code has requests as they come.
func (s *Server) streams(r *lambent.Revision) bool {
	rt, err := s.runtime(r.Config.Runtime)
	if err != nil {
		return false // which whoever starts it will say
	}
	g, ok := s.guests[rt.Guest].(guest.Streamer)
	return ok && g.Streams(rt)
}

// fixedEnv returns what of a configuration's environment only works at exec. Of a
// runtime that is not here any more nothing is known.
func (s *Server) fixedEnv(c *lambent.Config) []string {
	if len(c.Env) == 0 && len(c.Secrets) == 0 {
		return nil // most functions: no need to wait for the host to be looked at
	}
	rt, err := s.runtime(c.Runtime)
	if err != nil {
		return nil
	}
	return rt.Fixed(c)
}

// framework says of a configuration for a runtime of Google's whose functions framework
// runs the code, and when that is loaded.
func (s *Server) framework(c *lambent.Config) string {
	if _, err := runtimes.Family(c.Runtime); err == nil || len(c.Command) > 0 {
		return "" // no need to wait for the host to be looked at
	}
	rt, err := s.runtime(c.Runtime)
	g, ok := s.guests[rt.Guest].(*gcf.Guest)
	if err != nil || !ok || len(rt.Boot) == 0 || len(rt.Fixed(c)) > 0 {
		return ""
	}
	tree, err := s.code.Path(c.Code)
	if err != nil {
		return ""
	}
	l, err := g.Ahead(rt, lambent.NewRevision(lambent.Name{}, lambent.Latest, c), tree)
	if err != nil {
		return "the code's own, loaded at each start: " + err.Error()
	}
	return l.Name + ", loaded ahead"
}

// openDispatch makes the synchronous path. What it asks of control is asked once
// control is open.
func (s *Server) openDispatch(context.Context) error {
	s.metrics = telemetry.New(telemetry.Options{
		Known: func(n lambent.Name) bool { _, err := s.control.Resolve(n); return err == nil },
		Sandboxes: func() map[string]int {
			n := s.dispatch.Snapshot()
			return map[string]int{"idle": n.Idle, "busy": n.Busy, "starting": n.Starting, "parked": n.Parked}
		},
		QueueDepth: func() int { return s.dispatch.Snapshot().Queued },
		Dropped:    func() int { return s.queue.Stats().Buried },
		Async: func() map[string]int {
			n := s.queue.Stats()
			return map[string]int{"waiting": n.Waiting, "delayed": n.Delayed, "running": n.Running, "dead": n.Dead}
		},
		Lags: func() (lags []telemetry.Lag) {
			for _, t := range s.triggers.Triggers("", "") {
				if t.Lag != nil {
					lags = append(lags, telemetry.Lag{
						Project: t.Target.Project, Function: t.Target.Function, Trigger: t.ID, Behind: t.Lag.Behind, Waiting: t.Lag.Waiting, Retained: t.Lag.Retained,
					})
				}
			}
			return lags
		},
	})
	s.guests = map[string]guest.Guest{"lambda": &lambda.Guest{Limits: s.limits, Endpoint: s.openEndpoint}, "gcf": &gcf.Guest{Limits: s.limits}}
	s.dispatch = dispatch.New(dispatch.Config{
		Resolve: func(n lambent.Name) (lambent.Target, error) { return s.control.Resolve(n) },
		Led:     func(n lambent.Name) ([]lambent.Target, error) { return s.control.Led(n) },
		Usage: func(u *lambent.Usage) error {
			if err := s.ledger.Append(u); err != nil {
				return err
			}
			s.metrics.Observe(u)
			return nil
		},
		Runtime: s.runtime, Tree: s.tree,
		Log:    func(n lambent.Name) dispatch.Log { return s.logs.Function(n) },
		Driver: s.driver, Guests: s.guests,
		Limits: s.limits, Logger: s.log,
		KeepAlive: s.cfg.KeepAlive, MaxInstances: s.cfg.MaxInstances, MemoryMB: cmp.Or(s.cfg.MemoryMB, memoryShares().beside(s.cfg.Parked)), MaxQueue: s.cfg.MaxQueue, MaxStarts: s.cfg.MaxStarts, Parked: s.cfg.Parked, FreezeAfter: time.Second,
		Learnt: s.readLearnt(),
	})
	s.onClose("dispatch", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // Shutdown has given the grace
		defer cancel()
		defer s.writeLearnt()
		return s.dispatch.Close(ctx)
	})
	return nil
}

// openControl reads the functions.
func (s *Server) openControl(ctx context.Context) (err error) {
	s.control, err = control.Open(ctx, control.Config{
		Store: s.store, Limits: s.limits, HasCode: s.code.Has, CanRun: s.canRun, CanHold: s.canHold, CanKeep: func(f *lambent.Function) error { return s.dispatch.CanKeep(f) },
		Check: func(ctx context.Context, r *lambent.Revision, sc *lambent.Scaling) error {
			return s.dispatch.Prepare(ctx, r, sc)
		},
		Deleted: s.deleted,
	})
	if err != nil {
		return err
	}
	s.onClose("control", func() error { s.control.Close(); return nil })
	s.control.OnChange(func(n lambent.Name) {
		s.dispatch.Changed(n)
		if _, err := s.control.Resolve(n); lambent.Is(err, lambent.NotFound) {
			s.metrics.Remove(n)
		}
	})
	return s.provision()
}

// provision has what functions reserve set aside, and the instances made that they are to have at least.
func (s *Server) provision() error {
	projects, _ := s.control.Projects()
	for _, project := range projects {
		for after, more := "", true; more; {
			var list []*lambent.Function
			var err error
			if list, more, err = s.control.List(project, after, 1000); err != nil {
				return err
			}
			for _, f := range list {
				after = f.Name.Function
				if n, _ := f.SetAside(); n > 0 {
					s.dispatch.Changed(f.Name)
				}
			}
		}
	}
	return nil
}

// deleted removes what a function leaves outside of the store. What its last calls
// still write is discarded.
func (s *Server) deleted(n lambent.Name) {
	if err := errors.Join(s.logs.Delete(n), s.builder.Forget(n), s.triggers.Forget(s.background, n)); err != nil {
		s.log.Warn("what a deleted function has left cannot be removed", "function", n.String(), "error", err)
	}
}

// openFaces makes what answers on the port.
func (s *Server) openFaces(context.Context) error {
	invoker := throttleCounter{s.triggers, s.metrics}
	room := intake.New(int64(memoryShares().bodies) << 20)
	s.web = web.New(web.Config{Invoker: invoker, Intake: room, Resolve: s.control.Resolve, Allow: s.allow, Streams: s.streams, MaxBody: s.limits.MaxPayload, Stall: s.cfg.StallTimeout})
	s.api = v1.New(v1.Config{
		Control: s.control, Invoker: invoker, Triggers: s.triggers, Limits: s.limits, Logger: s.log, Intake: room,
		Authenticate: s.identify, Keys: s.keys, HasCode: s.code.Has, CanRun: s.canRun, CanKeep: s.dispatch.CanKeep, FixedEnv: s.fixedEnv, Framework: s.framework,
		PutCode: s.putCode, Zip: s.code.Zip, Build: s.build, BuildLog: s.builder.Log, Logs: s.logs, Ledger: s.ledger,
		FunctionURL: s.functionURL, Notify: s.objects.Notify,
		Runtimes: s.describeRuntimes, AddRuntime: s.addRuntime, RemoveRuntime: s.removeRuntime, Closing: s.closing,
		Server: s.describe,
	})
	s.aws = aws.New(aws.Config{AccessKey: s.keys.AccessKey, Services: map[string]aws.Service{"events": aws.Events(s.triggers.Publish), "lambda": aws.Functions(invoker, s.limits.MaxAsyncPayload), "s3": aws.Objects(s.s3()), "sqs": aws.SQS(s.queues)}, Logger: s.log, Intake: room})
	s.openFront(s.handler())
	return nil
}

func (s *Server) openProcessors(context.Context) error {
	if s.cfg.OwnProgram {
		s.processors = newProcessors(s.cfg.OwnGarbage)
		s.onClose("processors", func() error { s.processors.close(); return nil })
	}
	return nil
}

// throttleCounter counts refusals for load beside what dispatch does.
type throttleCounter struct {
	lambent.Invoker
	metrics *telemetry.Metrics
}

func (c throttleCounter) Invoke(ctx context.Context, inv *lambent.Invocation, r lambent.Reply) error {
	err := c.Invoker.Invoke(ctx, inv, r)
	if lambent.Is(err, lambent.Throttled) {
		c.metrics.Throttled(inv.Target)
	}
	return err
}

// identify says who a request is from.
func (s *Server) identify(r *http.Request) (auth.Identity, error) {
	token, ok := auth.FromRequest(r)
	if !ok {
		return auth.Identity{}, lambent.Errorf(lambent.Unauthenticated, "auth", "this needs a token").
			WithHint("set LAMBENT_TOKEN to the content of %s", s.path(auth.TokenFile))
	}
	return s.keys.Verify(token)
}

// allow is the rule of function URLs with the policy "token".
func (s *Server) allow(r *http.Request, project string) error {
	id, err := s.identify(r)
	if err != nil {
		return lambent.Errorf(lambent.Unauthenticated, "auth", "this function's URL needs a token of its project, as a bearer token")
	}
	if !id.Allows(project, auth.RoleInvoke) {
		return lambent.Errorf(lambent.Forbidden, "auth", "the token does not allow to call functions of project %s", project)
	}
	return nil
}

func (s *Server) putCode(ctx context.Context, r io.Reader) (v1.Code, error) {
	return asCode(s.code.PutZip(ctx, r))
}

func asCode(t bundle.Tree, err error) (v1.Code, error) {
	return v1.Code{Digest: t.Digest, Zip: t.ZipDigest, ZipBytes: t.ZipSize, Bytes: t.Size, Files: t.Files}, err
}

// functionURL is where a function's URL is; *.localhost needs no DNS.
func (s *Server) functionURL(n lambent.Name) string {
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil || isLoopback(host) || host == "" || host == "::" || host == "0.0.0.0" {
		host = "localhost"
	}
	if len(s.cfg.Hosts) > 0 {
		host = s.cfg.Hosts[0]
	}
	scheme := "http"
	if s.cfg.TLSCert != "" {
		scheme = "https"
	}
	label := n.Function
	if n.Project != lambent.DefaultProject {
		label += "." + n.Project
	}
	return scheme + "://" + label + ".fn." + net.JoinHostPort(host, port) + "/"
}

func (s *Server) describe() v1.Server {
	n := s.dispatch.Snapshot()
	l := s.limits
	return v1.Server{
		Version: s.cfg.Version, Driver: s.driverName, Isolation: s.driver.Isolation(), DataDir: s.cfg.Data,
		Started: s.started, UptimeS: int64(time.Since(s.started).Seconds()), Functions: s.control.Count(),
		Instances: v1.Instances{Idle: n.Idle, Busy: n.Busy, Starting: n.Starting, Queued: n.Queued},
		Limits: v1.Limits{
			MinMemoryMB: l.MinMemoryMB, MaxMemoryMB: l.MaxMemoryMB, MinTmpMB: l.MinTmpMB, MaxTmpMB: l.MaxTmpMB,
			MaxTimeoutMS: l.MaxTimeout.Milliseconds(), MaxServerTimeoutMS: l.MaxServerTimeout.Milliseconds(), InitTimeoutMS: l.InitTimeout.Milliseconds(), MaxConcurrency: l.MaxConcurrency,
			EnvBytes: l.MaxEnvBytes, PayloadBytes: l.MaxPayload, StreamBytes: l.MaxStream,
			ZipBytes: l.MaxZip, TreeBytes: l.MaxTree, Files: l.MaxFiles,
		},
	}
}

// Addr is the address that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is where clients on this machine find the server.
func (s *Server) URL() string {
	scheme := "http"
	if s.cfg.TLSCert != "" {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(s.Addr())
	if host == "::" || host == "0.0.0.0" {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// TokenFile is where the administrator's token is.
func (s *Server) TokenFile() string { return s.path(auth.TokenFile) }

// Isolation is what the sandbox driver promises.
func (s *Server) Isolation() string { return s.driver.Isolation() }

// Serve answers requests until Close. It returns nil after Close.
func (s *Server) Serve() error {
	l := stallListener{s.listener, s.cfg.StallTimeout}
	var err error
	if s.tls != nil {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.front.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) && s.isClosing() {
		return nil
	}
	return lambent.Errorf(lambent.Internal, "serve", "serving ended: %w", err)
}

// Close refuses new calls, lets those under way end until ctx is done, and closes
// everything in reverse order. It may be called once.
func (s *Server) Close(ctx context.Context) error {
	close(s.closing) // lets go of who follows logs
	// The port stays open until the last call has its answer, so that others are
	// refused in words and not by a connection that is reset.
	s.triggers.Stop()
	s.queues.Stop()
	err := s.dispatch.Close(ctx)
	s.listener.Close()
	if s.front.Shutdown(ctx) != nil {
		s.front.Close() // who is slower than the grace
	}
	s.rest.Close()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	s.stop()
	s.serving.Lock() // the connections of what is left are closed: it ends now
	defer s.serving.Unlock()
	return errors.Join(err, s.closeAll())
}

func (s *Server) closeAll() error {
	s.stop()
	s.running.Wait()
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		if err := s.closers[i].close(); err != nil {
			errs = append(errs, lambent.Errorf(lambent.Internal, "close "+s.closers[i].name, "%w", err))
		}
	}
	s.closers = nil
	return errors.Join(errs...)
}
