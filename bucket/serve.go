package bucket

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/internal/sigv4"
)

const bufferSize = 128 << 10

// Headers by which a gateway hears who asks, of the events' sake.
const (
	PrincipalHeader = "X-Lambent-Principal" // the access key
	RemoteHeader    = "X-Lambent-Remote"    // the address
	HopsHeader      = "X-Lambent-Hops"      // functions that led to the request
)

// Serve answers a request of S3's, by path, that was verified to be signed by an access
// key which may do everything in a project; its body fails where it is not what was
// signed, and then nothing has happened. Of an error nothing was answered. Kinds: those
// of the body, Unavailable, Canceled.
func (b *Buckets) Serve(w http.ResponseWriter, r *http.Request, project, accessKey string, hops int) error {
	body, err := signedBody(r)
	if err != nil {
		return err
	}
	out := b.outgoing(r, accessKey, hops, body)
	for _, name := range []string{"Authorization", "X-Amz-Security-Token", "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Decoded-Content-Length"} {
		out.Header.Del(name)
	}
	out.URL.RawQuery = unsigned(r.URL.RawQuery)
	payload := sigv4.UnsignedPayload
	if body.trailing {
		payload = body.payload()
		out.Header.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(r.ContentLength, 10))
		out.ContentLength = -1
	}
	return b.pass(w, r, out, project, body, func(g *gateway) error {
		return sigv4.Sign(out, g.access, g.secret, lambent.Region, "s3", payload, time.Now())
	})
}

// outgoing is a request as a gateway gets it, but for its signature.
func (b *Buckets) outgoing(r *http.Request, accessKey string, hops int, body *body) *http.Request {
	ctx, cancel := context.WithCancel(r.Context())
	body.abort = cancel
	out := (&http.Request{
		Method: r.Method, URL: &url.URL{Scheme: "http", Host: "gateway", Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
		Host: r.Host, Header: r.Header.Clone(), ContentLength: r.ContentLength, Body: body,
	}).WithContext(ctx)
	for _, name := range []string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "Expect"} {
		out.Header.Del(name)
	}
	for name := range out.Header {
		if strings.HasPrefix(name, "X-Lambent-") {
			delete(out.Header, name)
		}
	}
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	// What a gateway leaves unread of a body is not to be the next request, and what changes
	// something is not sent a second time because a connection was closed that was kept.
	out.Close = r.ContentLength != 0 || r.Method != http.MethodGet && r.Method != http.MethodHead
	out.Header.Set(PrincipalHeader, accessKey)
	out.Header.Set(HopsHeader, strconv.Itoa(hops))
	out.Header.Set(RemoteHeader, hostOf(r.RemoteAddr))
	return out
}

func hostOf(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i >= 0 {
		addr = addr[:i]
	}
	return strings.Trim(addr, "[]")
}

// unsigned is a query without what presigned it.
func unsigned(query string) string {
	if !strings.Contains(query, "Signature=") {
		return query
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		switch name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Content-Sha256",
			"AWSAccessKeyId", "Signature", "Expires": // of S3's older form
		default:
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// pass has a project's gateway answer.
func (b *Buckets) pass(w http.ResponseWriter, r, out *http.Request, project string, body *body, sign func(*gateway) error) error {
	defer body.abort()
	leave, err := b.admit(r, body)
	if err != nil {
		return err
	}
	defer leave()
	deadlines := http.NewResponseController(w)
	body.wait = func() { b.within(deadlines.SetReadDeadline) }
	defer func() {
		body.end(func() { _ = deadlines.SetReadDeadline(time.Unix(1, 0)) })
		body.wait() // that deadline stands for what is left to be read; the next request has its own
	}()
	g, err := b.use(r.Context(), project)
	if err != nil {
		return err
	}
	defer b.release(g)
	if err := sign(g); err != nil {
		return err
	}
	resp, err := g.client.RoundTrip(out)
	if failed := body.failed(); failed != nil { // and the gateway has seen no end of it
		if err == nil {
			_ = resp.Body.Close()
		}
		return failed
	}
	if err != nil {
		if r.Context().Err() == nil {
			b.opts.Logger.Warn("a gateway of buckets does not answer", "project", project, "error", err)
		}
		return lambent.Errorf(lambent.Unavailable, "bucket", "the buckets cannot be reached now: try again")
	}
	defer resp.Body.Close()
	h := w.Header()
	for name, values := range resp.Header {
		h[name] = values
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Transfer-Encoding"} {
		h.Del(name)
	}
	h.Set("Server", "lambent")
	w.WriteHeader(resp.StatusCode)
	to := writing(func(p []byte) (int, error) {
		b.within(deadlines.SetWriteDeadline)
		return w.Write(p)
	})
	_, _ = io.CopyBuffer(to, resp.Body, make([]byte, bufferSize)) // a client that is gone finds out by itself
	_ = deadlines.SetWriteDeadline(time.Time{})
	return nil
}

// within sets a deadline of a client's.
func (b *Buckets) within(set func(time.Time) error) {
	if b.opts.Stall > 0 {
		_ = set(time.Now().Add(b.opts.Stall)) // where there are none, none are needed
	}
}

// writing is a writer that is a function.
type writing func([]byte) (int, error)

// Write implements io.Writer.
func (w writing) Write(p []byte) (int, error) { return w(p) }
