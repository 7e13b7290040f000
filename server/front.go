package server

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"

	v1 "lambent/api/v1"
	"lambent/internal/http1"
)

// isCall tells the requests for functions, nearly all that a server gets, from
// those for itself. It may take one for a call that turns out to be none.
func isCall(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/fn/") || strings.Contains(r.Host, ".fn.") || isAccepted(r)
}

// isAccepted tells the requests that are answered as soon as what they bring is on disk:
// producers send as many as callers do.
func isAccepted(r *http.Request) bool {
	return r.Method == http.MethodPost && (r.URL.Path == "/v1/events" || strings.HasPrefix(r.URL.Path, "/v1/functions/") && v1.PrefersAsync(r.Header))
}

// openFront makes what answers calls, and what answers all else: see http1.Server.
// A port with TLS, which HTTP/2 may be spoken on, is net/http's.
func (s *Server) openFront(handler http.Handler) {
	s.http = &http.Server{
		Handler: handler, TLSConfig: s.tls, ReadHeaderTimeout: headTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.rest = newHanded(s.listener.Addr())
	s.front = &http1.Server{
		Handler: handler, Takes: isCall, Rest: s.rest.put, HeadTimeout: headTimeout, BodyTimeout: s.cfg.StallTimeout, IdleTimeout: idleTimeout, ErrorLog: s.http.ErrorLog,
	}
}

// handed is a listener of the connections that the front hands over.
type handed struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHanded(addr net.Addr) *handed {
	return &handed{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// put hands a connection over; one that comes after Close is closed.
func (h *handed) put(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handed) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handed) Addr() net.Addr { return h.addr }
