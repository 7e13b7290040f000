package web

import (
	"io"
	"net/http"
	"sync"
	"time"

	"lambent"
)

var _ lambent.Upload = (*upload)(nil)

// An upload is a request's body that is passed on as it comes. Who sends nothing for
// too long, while somebody waits for it, is cut off: it holds a place of an instance.
type upload struct {
	r       *http.Request
	to      *lambent.Request // has the trailers
	control *http.ResponseController
	stall   time.Duration
	count   int64

	mu    sync.Mutex
	until time.Time // the deadline for reading
	over  bool      // it is at its end, or given up: the connection is not for us any more
	whole bool      // it was read to its end
}

func newUpload(w http.ResponseWriter, r *http.Request, to *lambent.Request, stall time.Duration) *upload {
	u := &upload{r: r, to: to, control: http.NewResponseController(w), stall: stall}
	_ = u.control.EnableFullDuplex()    // or it is so already, as with HTTP/2
	if _, ok := w.(http.Hijacker); ok { // net/http would take what is not read of it for the next request
		w.Header().Set("Connection", "close")
	}
	return u
}

// Read implements io.Reader.
func (u *upload) Read(b []byte) (int, error) {
	if !u.extend() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := u.r.Body.Read(b)
	u.count += int64(n)
	if err == io.EOF {
		u.to.Trailer = u.r.Trailer
		u.end(time.Time{})
		u.mu.Lock()
		u.whole = true
		u.mu.Unlock()
	} else if err == nil && u.r.ProtoMajor == 2 {
		u.pause()
	}
	return n, err
}

// extend moves the deadline, where it is an eighth too early, unless it is all over.
func (u *upload) extend() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now := time.Now(); !u.over && u.until.Sub(now) < u.stall-u.stall/8 {
		u.until = now.Add(u.stall)
		_ = u.control.SetReadDeadline(u.until) // or there is none
	}
	return !u.over
}

// pause takes the deadline back: that of HTTP/2 ends the body while nobody waits for it.
func (u *upload) pause() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.over {
		u.until = time.Time{}
		_ = u.control.SetReadDeadline(u.until)
	}
}

// isWhole reports whether nothing of it is left on the connection.
func (u *upload) isWhole() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.whole
}

// end sets the last deadline.
func (u *upload) end(t time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.over {
		u.over = true
		_ = u.control.SetReadDeadline(t)
	}
}

// Close implements io.Closer.
func (u *upload) Close() error {
	u.end(time.Unix(1, 0))
	return nil
}

// Count implements lambent.Upload.
func (u *upload) Count() int64 { return u.count }
