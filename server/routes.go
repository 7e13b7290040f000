package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"lambent"
	"lambent/api/aws"
	"lambent/api/web"
	"lambent/auth"
	"lambent/bucket"
)

// A route is one row of the face: what answers where, and who may ask.
type route struct {
	where   string // a pattern of net/http on the server's own name, or a kind of host
	what    string
	who     string
	handler func(*Server) http.Handler // nil: a function's, chosen before the patterns
}

const (
	anyone   = "anyone"
	bearer   = "bearer token"
	admin    = "bearer token of all projects"
	urlRules = "as the function's URL policy says"
)

// routes is the whole face, in one table.
var routes = []route{
	{"NAME.fn.HOST, NAME.PROJECT.fn.HOST", "a function's URL", urlRules, nil},
	{"/fn/{function}/", "the same for clients without DNS, in a browser sandbox", urlRules, nil},
	{"any path, signed (SigV4)", "AWS's services, by the signature's scope: EventBridge (PutEvents), SQS, S3, Lambda (Invoke)", "access key", nil},
	{"/BUCKET, by a browser", "forms that upload (POST), signed inside, and CORS preflights, as the bucket's configuration has it", anyone, nil},
	{"/v1/", "the API; OpenAPI at /v1/openapi.json", bearer, func(s *Server) http.Handler { return s.api }},
	{"/healthz", "the process lives", anyone, func(*Server) http.Handler { return http.HandlerFunc(health) }},
	{"/readyz", "the server takes calls", anyone, func(s *Server) http.Handler { return http.HandlerFunc(s.ready) }},
	{"/metrics", "Prometheus metrics", admin, func(s *Server) http.Handler { return s.admin(s.metrics.Handler()) }},
	{"/debug/", "profiles", admin, func(s *Server) http.Handler { return s.admin(debugHandler()) }},
	{"/{$}", "what this is", anyone, func(s *Server) http.Handler { return http.HandlerFunc(s.root) }},
}

// PrintRoutes writes the table, for `lambent serve --routes`.
func PrintRoutes(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "WHERE\tWHAT\tWHO")
	for _, r := range routes {
		fmt.Fprintf(t, "%s\t%s\t%s\n", r.where, r.what, r.who)
	}
	return t.Flush()
}

// handler is the one port: it tells hosts apart, and turns away those that are
// not ours before anything else is looked at.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	// A page of another origin must not use what a browser knows of us.
	guard := http.NewCrossOriginProtection()
	for _, r := range routes {
		if r.handler != nil {
			mux.Handle(r.where, guard.Handler(r.handler(s)))
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.serving.RLock()
		defer s.serving.RUnlock()
		if s.isClosing() {
			w.Header().Set("Connection", "close") // the next request is for another server
		}
		host := hostname(r.Host)
		name, rest, ok := web.ParseHost(host)
		isURL := ok && s.isOurs(rest)
		weight := int32(heavy)
		if isURL || strings.HasPrefix(r.URL.Path, "/fn/") || r.Method == http.MethodGet || isAccepted(r) || aws.IsSigned(r) {
			weight = light
		}
		s.processors.enter(weight)
		defer s.processors.leave(weight)
		if isURL {
			s.web.ServeName(w, r, name)
			linger(w, r)
			return
		}
		if !s.isOurs(host) {
			// A rebound DNS name gets here: it must not reach anything of ours.
			http.Error(w, fmt.Sprintf("this server is not called %.100q; start it with --host to allow the name", host), http.StatusMisdirectedRequest)
			return
		}
		if _, route := mux.Handler(r); route == "" && bucket.IsPreflight(r) { // of a presigned URL it has the signature, too
			s.serveBrowser(w, r, s.buckets.ServePreflight)
			linger(w, r)
			return
		}
		if aws.IsSigned(r) {
			// What a path means is the service's to say, and no page of another origin has
			// a key to sign with.
			s.aws.ServeHTTP(w, r)
			linger(w, r)
			return
		}
		if bucket.IsForm(r) {
			s.serveBrowser(w, r, s.buckets.ServeForm)
			linger(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/fn/") {
			// Who may ask is for functions to decide, and so is what a path means: the
			// mux would tidy it up.
			s.web.ServePath(w, r)
		} else {
			mux.ServeHTTP(w, r)
		}
		linger(w, r)
	})
}

// linger reads the rest of a body that was refused for its size, within bounds:
// net/http would close the connection, and a client that sends on finds it reset,
// and may never see the answer.
func linger(w http.ResponseWriter, r *http.Request) {
	const most, longest = 32 << 20, 2 * time.Second
	if r.ContentLength == 0 || r.ProtoMajor != 1 || r.Header["Expect"] != nil { // who expects to be asked first is not asked
		return
	}
	var one [1]byte
	if n, _ := r.Body.Read(one[:]); n == 0 {
		return // it has been read, as nearly always
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(longest))
	_, _ = io.CopyN(io.Discard, r.Body, most)
}

const (
	headTimeout = 10 * time.Second
	idleTimeout = 2 * time.Minute
)

// hostname is a Host header without its port, in lower case.
func hostname(h string) string {
	if name, _, err := net.SplitHostPort(h); err == nil {
		h = name
	}
	return strings.ToLower(strings.Trim(h, "[]"))
}

// isOurs reports whether a name is one that this server answers to.
func (s *Server) isOurs(host string) bool {
	return slices.Contains(s.hosts, host)
}

// admin lets only bearers of a token for all projects through.
func (s *Server) admin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := s.identify(r)
		if err == nil && (id.Project != "" || id.Role != auth.RoleAdmin) {
			err = lambent.Errorf(lambent.Forbidden, "serve", "the token is not an administrator's")
		}
		if err != nil {
			status := http.StatusUnauthorized
			if lambent.Is(err, lambent.Forbidden) {
				status = http.StatusForbidden
			}
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, lambent.UserMessage(err), status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func health(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n")
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.isClosing() {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// isClosing reports whether Close has begun.
func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *Server) root(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = fmt.Fprintf(w, "lambent %s: serverless functions on this machine\n\n  lambent init hello && cd hello && lambent deploy && lambent invoke hello\n\nAPI: /v1/openapi.json\n", s.cfg.Version)
}
