// Package web is the HTTP face of functions: their URLs, at NAME.fn.HOST and
// /fn/NAME. It turns a request into an invocation and the reply into an answer,
// applies the URL's policy, and answers CORS pre-flights for functions that have
// CORS configured. How a request looks to the code is the guest's to say.
//
// It does not decide which hosts are ours, and authenticates nobody itself: the
// server plugs both in.
package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/internal/intake"
)

// A Config is what the face needs. Its functions may be called concurrently.
type Config struct {
	Invoker lambent.Invoker
	Resolve func(lambent.Name) (lambent.Target, error)
	Allow   func(r *http.Request, project string) error // whether the bearer may call the project's functions
	Streams func(*lambent.Revision) bool                // whether its code has requests as they come: see guest.Streamer
	MaxBody int                                         // bytes of a request, of code that has them whole
	Intake  *intake.Room                                // for those; nil: without a bound
	Stall   time.Duration                               // without a byte of a body that is passed on as it comes
}

// A Face serves function URLs. The zero value is of no use; see New.
type Face struct{ cfg Config }

// New returns a Face.
func New(cfg Config) *Face { return &Face{cfg} }

// ParseHost reads "NAME.fn.rest" and "NAME.PROJECT.fn.rest", without a port, and
// reports whether the host is one of the two.
func ParseHost(host string) (n lambent.Name, rest string, ok bool) {
	label, rest, found := strings.Cut(host, ".fn.")
	if !found || label == "" {
		return n, "", false
	}
	return parseLabel(label), rest, true
}

// parseLabel reads NAME or NAME.PROJECT.
func parseLabel(label string) lambent.Name {
	name, project, ok := strings.Cut(label, ".")
	if !ok {
		project = lambent.DefaultProject
	}
	return lambent.Name{Project: project, Function: name}
}

// ServeName answers a request to a function's own host.
func (f *Face) ServeName(w http.ResponseWriter, r *http.Request, name lambent.Name) {
	f.serve(w, r, name, r.URL.EscapedPath(), false)
}

// ServePath answers a request to /fn/NAME[.PROJECT][:QUALIFIER]/..., which shares
// its origin with the API and the console. A page from there is put into a
// sandbox by its headers, and cookies of ours do not pass.
func (f *Face) ServePath(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/fn/")
	label, rest, _ := strings.Cut(path, "/")
	label, qualifier, _ := strings.Cut(label, ":")
	name := parseLabel(label)
	name.Qualifier = qualifier
	f.serve(w, r, name, "/"+rest, true)
}

func (f *Face) serve(w http.ResponseWriter, r *http.Request, name lambent.Name, path string, shared bool) {
	if shared {
		w.Header()["Content-Security-Policy"] = []string{"sandbox"}
	}
	target, err := f.resolve(name)
	if err != nil {
		refuse(w, err)
		return
	}
	if c := target.URL.CORS; c != nil && cors(w, r, c) {
		return
	}
	if target.URL.Policy == lambent.URLToken {
		if err := f.cfg.Allow(r, name.Project); err != nil {
			refuse(w, err)
			return
		}
	}
	var call struct { // in one piece of memory
		lambent.Invocation
		lambent.Request
		reply
		from intake.Body
	}
	call.Request = request(r, path, target.URL)
	call.Request.Upgrade = upgrade(r)
	large := r.ContentLength < 0 || r.ContentLength > pooledBody
	streams := (large || call.Request.Upgrade != "") && f.cfg.Streams(target.Revision)
	if !streams {
		call.Request.Upgrade = ""
	} else if call.Request.Upgrade != "" {
		if err := mayUpgrade(r, target.URL.CORS); err != nil {
			refuse(w, err)
			return
		}
	}
	var up *upload
	if streams && large {
		up = newUpload(w, r, &call.Request, f.cfg.Stall)
		call.Request.Body, call.Request.ContentLength = up, r.ContentLength
		call.Request.Trailer = r.Trailer
	} else {
		body := buffers.Get().(*bytes.Buffer)
		defer func() {
			if body.Cap() <= pooledBody {
				body.Reset()
				buffers.Put(body)
			}
		}()
		call.from = f.cfg.Intake.Body(name.Project, r.Body)
		defer call.from.Release()
		if err := readBody(body, r, &call.from, f.cfg.MaxBody); err != nil {
			refuse(w, err)
			return
		}
		call.Request.Body, call.Request.ContentLength = body, int64(body.Len())
	}
	call.Invocation = lambent.Invocation{ID: lambent.NewID(), Target: name, Trace: trace(r), HTTP: &call.Request}
	call.reply = reply{w: w, shared: shared, cors: target.URL.CORS != nil, upload: up}
	inv, out := &call.Invocation, &call.reply
	w.Header()["X-Amzn-Requestid"] = []string{inv.ID}
	err = f.cfg.Invoker.Invoke(r.Context(), inv, out)
	if out.conn != nil {
		out.conn.Close()
		return
	}
	if err != nil {
		if out.begun {
			panic(http.ErrAbortHandler)
		}
		refuse(w, err)
		return
	}
	if out.broken {
		panic(http.ErrAbortHandler) // the client must not take what it has for the whole
	}
}

// resolve finds a function that has a URL. Whether there is one without is not a
// stranger's to know.
func (f *Face) resolve(name lambent.Name) (lambent.Target, error) {
	if name.Validate() == nil {
		t, err := f.cfg.Resolve(name)
		if err != nil && !lambent.Is(err, lambent.NotFound) || err == nil && t.URL.Policy != lambent.URLNone && t.URL.Policy != "" {
			return t, err
		}
	}
	return lambent.Target{}, lambent.Errorf(lambent.NotFound, "web", "there is no function URL here: `lambent deploy --url public` makes one")
}

func trace(r *http.Request) string {
	if t := r.Header.Get("X-Amzn-Trace-Id"); t != "" {
		return t
	}
	return r.Header.Get("Traceparent")
}

// buffers holds buffers for bodies.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const pooledBody = 64 << 10 // bytes; larger ones are made for the occasion

// readBody takes in the whole body before there is an instance for it: who sends
// slowly, or never ends, must not hold one. What is announced is not believed:
// memory is for what has come.
func readBody(to *bytes.Buffer, r *http.Request, from io.Reader, limit int) error {
	tooLarge := func() error {
		return lambent.Errorf(lambent.TooLarge, "web", "the request's body is over the limit of %d bytes", limit)
	}
	if r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength > int64(limit) {
		return tooLarge()
	}
	switch n, err := to.ReadFrom(io.LimitReader(from, int64(limit)+1)); {
	case lambent.Is(err, lambent.Throttled):
		return err
	case err != nil:
		return lambent.Errorf(lambent.Canceled, "web", "the request's body broke off: %w", err)
	case n > int64(limit):
		return tooLarge()
	}
	return nil
}

func request(r *http.Request, path string, u *lambent.URL) lambent.Request {
	ip, port, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	header := withoutOurCookies(r.Header)
	if u.Policy == lambent.URLToken { // it was for the server, and may open more than this function
		header = maps.Clone(header)
		delete(header, "Authorization")
	}
	return lambent.Request{
		Method: r.Method, Proto: r.Proto, Scheme: scheme, Host: r.Host, Path: path, RawQuery: r.URL.RawQuery,
		Header: header, RemoteIP: ip, RemotePort: port, Stream: u.Stream,
	}
}

// ours is how every cookie of the platform's own begins. A function's host may be
// below the platform's, and so within reach of each other's cookies.
const ours = "lambent_"

// isOurs reports whether a cookie is the platform's. Browsers send one that was set
// without a name, "=x=y", as if its name were x.
func isOurs(cookie string) bool {
	return strings.HasPrefix(strings.TrimLeft(cookie, "= \t"), ours)
}

func withoutOurCookies(h http.Header) http.Header {
	cookies, ok := h["Cookie"]
	if !ok || !strings.Contains(strings.Join(cookies, ";"), ours) {
		return h
	}
	h = h.Clone()
	var kept []string
	for _, line := range cookies {
		for c := range strings.SplitSeq(line, ";") {
			if c = strings.TrimSpace(c); !isOurs(c) {
				kept = append(kept, c)
			}
		}
	}
	delete(h, "Cookie")
	if kept != nil {
		h["Cookie"] = []string{strings.Join(kept, "; ")}
	}
	return h
}

// A reply writes a function's answer to the client.
type reply struct {
	w      http.ResponseWriter
	shared bool
	cors   bool // the URL's configuration has said what there is to say
	begun  bool
	stream bool      // the length is not known: what comes is passed on at once
	broken bool      // the function failed in the middle
	conn   *switched // the protocol was switched; or nil
	upload *upload   // the request's body, if that is passed on as it comes
}

// Begin implements lambent.Reply.
func (o *reply) Begin(status int, header map[string][]string) error {
	o.begun = true
	o.fill(header)
	if o.upload != nil && o.upload.isWhole() {
		o.w.Header().Del("Connection")
	}
	_, known := header["Content-Length"]
	o.stream = !known
	o.w.WriteHeader(status)
	return nil
}

// ofTheHop reports whether a header is not the code's to say, but of this connection (RFC
// 9110, 7.6.1). It is not the guests' question of what a server said to them alone: no
// answer was on a wire for whoever only returns it, so that its Connection lists nothing,
// and a challenge (Proxy-Authenticate) is the code's own.
func ofTheHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// fill makes the header of the answer.
func (o *reply) fill(header map[string][]string) {
	h := o.w.Header()
	for name, values := range header {
		if ofTheHop(name) {
			continue
		}
		switch name {
		case "Content-Security-Policy", "Vary":
			h[name] = append(h[name], values...) // each of them counts
			continue
		case "Set-Cookie":
			for _, v := range values {
				if !isOurs(v) {
					h[name] = append(h[name], v)
				}
			}
			continue
		case "Clear-Site-Data", "Service-Worker-Allowed", "Strict-Transport-Security":
			if o.shared { // they speak for the whole origin
				continue
			}
		}
		if o.cors && strings.HasPrefix(name, "Access-Control-") {
			continue
		}
		h[name] = values
	}
}

// Write implements lambent.Reply.
func (o *reply) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err == nil && o.stream {
		err = http.NewResponseController(o.w).Flush()
	}
	return n, err
}

// End implements lambent.Reply.
func (o *reply) End(res lambent.Result) {
	switch {
	case o.conn != nil:
		o.conn.Close()
	case res.Fault == nil:
		o.trail(res.Trailer)
	case o.begun:
		o.broken = true
	default: // no cloud shows a caller anything of the function's failure
		status, text := http.StatusBadGateway, "Internal Server Error"
		if s := res.Fault.Status; s != 0 {
			status, text = s, http.StatusText(s)
		}
		o.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		o.w.WriteHeader(status)
		_, _ = o.w.Write([]byte(text))
	}
}

// trail adds what comes behind the answer's body, of which the length is not known then.
func (o *reply) trail(trailer map[string][]string) {
	if len(trailer) == 0 || !o.stream {
		return
	}
	_ = http.NewResponseController(o.w).Flush() // or an empty body would have a length
	h := o.w.Header()
	for name, values := range trailer {
		if !ofTheHop(name) && name != "Set-Cookie" { // which is held to in the head
			h[http.TrailerPrefix+name] = values
		}
	}
}

// refuse answers for the platform, as AWS's function URLs do.
func refuse(w http.ResponseWriter, err error) {
	status, name := http.StatusInternalServerError, "ServiceException"
	switch lambent.KindOf(err) {
	case lambent.Invalid:
		status, name = http.StatusBadRequest, "ValidationException"
	case lambent.NotFound, lambent.Forbidden:
		status, name = http.StatusForbidden, "AccessDeniedException"
	case lambent.Unauthenticated:
		status, name = http.StatusUnauthorized, "AccessDeniedException"
		w.Header().Set("WWW-Authenticate", "Bearer")
	case lambent.TooLarge:
		status, name = http.StatusRequestEntityTooLarge, "RequestTooLargeException"
	case lambent.Throttled:
		status, name = http.StatusTooManyRequests, "TooManyRequestsException"
		w.Header().Set("Retry-After", strconv.Itoa(lambent.RetrySeconds(err)))
	case lambent.Unavailable:
		status, name = http.StatusServiceUnavailable, "ServiceUnavailableException"
	case lambent.NoSpace:
		status, name = http.StatusInsufficientStorage, "ServiceException"
	case lambent.Canceled:
		status, name = 499, "ClientClosedRequest" // nobody reads it
	}
	reason := ""
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		reason = e.Reason
	}
	body, _ := json.Marshal(struct {
		Reason  string `json:",omitempty"`
		Message string
	}{reason, lambent.UserMessage(err)})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", name)
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
