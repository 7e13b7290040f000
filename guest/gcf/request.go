package gcf

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lambent"
	"lambent/internal/http1"
)

// A request is what the code is sent for an invocation.
type request struct {
	method, target string
	header         [][2]string
	body           []byte
	bodied         bool           // it says how long its body is, be it empty
	upload         lambent.Upload // in the place of body; or nil
	from           *lambent.Request
}

// safe reports whether the code is asked for what changes nothing (RFC 9110, 9.2.1), and
// can be asked again.
func (r *request) safe() bool {
	switch r.method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return r.upload == nil
	}
	return false
}

// request says an invocation in HTTP. Its error refuses the invocation.
func (in *instance) request(inv *lambent.Invocation) (*request, error) {
	var r *request
	var err error
	switch {
	case inv.HTTP != nil:
		r, err = passedOn(inv.HTTP, in.limits.MaxPayload)
	case inv.Source == "schedule":
		r, err = in.scheduled(inv)
	case len(inv.Events) > 1:
		err = lambent.Errorf(lambent.Unsupported, "gcf.Invoke", "%d events at once: a function of Google's takes one", len(inv.Events))
	case len(inv.Events) == 1:
		e := &inv.Events[0]
		switch inv.Source {
		case "bucket":
			e, err = storageEvent(e)
		case "queue":
			e, err = messageEvent(e, inv.Target.Project)
		}
		if err != nil {
			return nil, err
		}
		r = binaryMode(e, in.host())
	default:
		r, err = in.event(inv.Raw)
	}
	if err != nil {
		return nil, err
	}
	r.trace(inv)
	return r, nil
}

// host is what an event is sent to, in name.
func (in *instance) host() string { return "localhost:" + strconv.Itoa(in.port) }

func (r *request) add(name, value string) { r.header = append(r.header, [2]string{name, value}) }

// passedOn is a request of the world's as it came, but for what is between two hops
// (RFC 9110, 7.6.1), and with what Google's front adds.
func passedOn(h *lambent.Request, limit int) (*request, error) {
	target := h.Path
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	if h.RawQuery != "" {
		target += "?" + h.RawQuery
	}
	r := &request{method: h.Method, target: target, header: make([][2]string, 0, len(h.Header)+8), from: h}
	var err error
	if r.upload, _ = h.Body.(lambent.Upload); r.upload == nil {
		if r.body, err = readBody(h, limit); err != nil {
			return nil, err
		}
	}
	r.bodied = len(r.body) > 0 || len(h.Header["Content-Length"]) > 0 || h.Method == http.MethodPost || h.Method == http.MethodPut || h.Method == http.MethodPatch
	r.add("Host", h.Host)
	forwarded := h.RemoteIP
	for name, values := range h.Header {
		if name == "X-Forwarded-For" {
			forwarded = strings.Join(append(values[:len(values):len(values)], forwarded), ", ")
		}
		if saidAnew(name) || ofTheHop(name, h.Header["Connection"]) {
			continue
		}
		for _, v := range values {
			r.add(name, v)
		}
	}
	r.add("X-Forwarded-For", forwarded)
	r.add("X-Forwarded-Proto", h.Scheme)
	r.add("X-Forwarded-Host", h.Host)
	if hasOption(h.Header["Te"], "trailers") {
		r.add("Te", "trailers")
	}
	if len(h.Trailer) > 0 {
		r.add("Trailer", strings.Join(slices.Sorted(maps.Keys(h.Trailer)), ", "))
	}
	if h.Upgrade != "" {
		r.add("Connection", "Upgrade")
		r.add("Upgrade", h.Upgrade)
	}
	return r, nil
}

// saidAnew reports whether a header is ours to say, or done with.
func saidAnew(name string) bool {
	switch name {
	case "Host", "Content-Length", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Function-Execution-Id", "Expect":
		return true
	}
	return false
}

// ofTheHop reports whether a header is about one connection and not about the message:
// those that are by name, and those that Connection lists.
func ofTheHop(name string, connection []string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return hasOption(connection, name)
}

// hasOption looks for one of a list that is divided by commas, in any case.
func hasOption(lines []string, option string) bool {
	for _, line := range lines {
		for o := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(o), option) {
				return true
			}
		}
	}
	return false
}

// readBody returns the request's body, in place where it is in memory: then another
// instance may be tried.
func readBody(r *lambent.Request, limit int) ([]byte, error) {
	const op = "gcf.Invoke"
	if r.Body == nil || r.ContentLength == 0 {
		return nil, nil
	}
	if b, ok := r.Body.(interface{ Bytes() []byte }); ok {
		return b.Bytes(), nil
	}
	var buf bytes.Buffer
	switch n, err := buf.ReadFrom(io.LimitReader(r.Body, int64(limit)+1)); {
	case err != nil:
		return nil, lambent.Errorf(lambent.Canceled, op, "cannot read the request's body: %w", err)
	case n > int64(limit):
		return nil, lambent.Errorf(lambent.TooLarge, op, "the request's body is over the limit of %d bytes", limit)
	}
	return buf.Bytes(), nil
}

// trace adds what says which invocation it is, and of which trace: the caller's, or
// one that has the invocation's id.
func (r *request) trace(inv *lambent.Invocation) {
	r.add("Function-Execution-Id", inv.ID)
	parent, cloud := "", false
	for _, h := range r.header {
		switch h[0] {
		case "Traceparent":
			parent = h[1]
		case "X-Cloud-Trace-Context":
			cloud = true
		}
	}
	said := parent != ""
	if parent == "" {
		parent = lambent.Traceparent(inv.Trace)
	}
	if parent == "" {
		var span [8]byte
		rand.Read(span[:])
		parent = "00-" + strings.ReplaceAll(inv.ID, "-", "") + "-" + hex.EncodeToString(span[:]) + "-00"
	}
	if !said {
		r.add("Traceparent", parent)
	}
	if parent = lambent.Traceparent(parent); !cloud && parent != "" {
		span, _ := hex.DecodeString(parent[36:52])
		r.add("X-Cloud-Trace-Context", parent[3:35]+"/"+strconv.FormatUint(binary.BigEndian.Uint64(span), 10)+";o="+parent[54:55])
	}
}

// trailer is what came behind the body, but for what is not for there.
func (r *request) trailer() map[string][]string {
	return withoutHop(r.from.Trailer, nil, saidAnew)
}

// begin queues the head.
func (r *request) begin(c *http1.Client) *http1.Writer {
	w := c.Request(r.method, r.target)
	for _, h := range r.header {
		w.Header(h[0], h[1])
	}
	return w
}

// finish queues the body behind the head, and writes all.
func (r *request) finish(w *http1.Writer) error {
	if !r.bodied {
		w.End()
	} else if err := w.Body(r.body); err != nil {
		return err
	}
	return w.Flush()
}

// An uploadError is of who sends the request, and not of who is sent it.
type uploadError struct{ error }

// stream writes the body as it comes.
func (r *request) stream(w *http1.Writer) error {
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	for buf := *pooled; ; {
		n, err := r.upload.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return w.EndStream(r.trailer())
		} else if err != nil {
			return uploadError{err}
		}
	}
}
