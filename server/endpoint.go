package server

import (
	"log/slog"
	"net"
	"net/http"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/semaphore"

	"lambent"
	"lambent/api/aws"
	"lambent/auth"
	"lambent/guest/lambda"
)

// What one sandbox may have at its endpoint. Who wants more waits.
const (
	endpointConns    = 256
	endpointRequests = 64       // under way
	endpointMemory   = 16 << 20 // bytes of their bodies, but of objects' content, which is passed on
)

// openEndpoint has AWS's clients in a sandbox answered by the face that the port has for
// them, and by nothing else of it. They have one access key, of this sandbox, which is known
// here alone; what it is good for is the project's whose function is in there.
func (s *Server) openEndpoint(sandbox string, l net.Listener, who lambda.Who) lambda.Endpoint {
	key := s.keys.Session(sandbox)
	underWay, memory := make(chan struct{}, endpointRequests), semaphore.NewWeighted(endpointMemory)
	h := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case underWay <- struct{}{}:
				defer func() { <-underWay }()
			case <-r.Context().Done():
				return
			}
			s.serveInside(w, r, key, who, memory)
		}),
		ReadHeaderTimeout: headTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	go func() { _ = h.Serve(netutil.LimitListener(l, endpointConns)) }() // until Close, or the sandbox's end
	return lambda.Endpoint{Close: h.Close, Env: map[string]string{
		"AWS_ENDPOINT_URL":  "http://" + l.Addr().String(),
		"AWS_ACCESS_KEY_ID": key.ID, "AWS_SECRET_ACCESS_KEY": key.Secret, "AWS_SESSION_TOKEN": key.Session,
	}}
}

// serveInside answers a request from inside a sandbox.
func (s *Server) serveInside(w http.ResponseWriter, r *http.Request, key auth.AccessKey, who lambda.Who, memory *semaphore.Weighted) {
	select {
	case <-s.opened: // code may start before all of the server has
	case <-r.Context().Done():
		return
	}
	s.serving.RLock()
	defer s.serving.RUnlock()
	s.processors.enter(light)
	defer s.processors.leave(light)
	caller, err := who(r.Header.Get("X-Amzn-Trace-Id"))
	if err == nil && !aws.IsSigned(r) {
		err = lambent.Errorf(lambent.Forbidden, "serve", "AWS's services are here, for requests that are signed with the access key in the function's environment")
	}
	if err != nil {
		aws.Refuse(w, r, "", err)
	} else {
		key.Who = auth.Identity{Project: caller.Function.Project, Role: auth.RoleAdmin, Token: key.ID}
		s.aws.For(key, caller.Hops, memory).ServeHTTP(w, r)
	}
	linger(w, r)
}
