package rootfs

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	tellEvery = 2 * time.Second
	maxStall  = time.Minute // without a byte; then who sends is given up
)

// A progress tells whoever waits how far things are.
type progress struct {
	mu   sync.Mutex
	to   io.Writer
	stop context.CancelCauseFunc // gives up what is under way
}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.to, format+"\n", args...) // who no longer listens ends nothing; the context does
}

// Write passes on what a program prints.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.to.Write(b)
}

// watch returns a reader that tells how much of it has been read, and that gives
// up where nothing comes for too long. size is what is expected; 0: nobody knows.
func (p *progress) watch(r io.Reader, what string, size int64) io.Reader {
	return &watched{r: r, p: p, what: what, size: size, told: time.Now()}
}

type watched struct {
	r          io.Reader
	p          *progress
	what       string
	read, size int64
	told       time.Time
}

func (w *watched) Read(b []byte) (int, error) {
	stall := time.AfterFunc(maxStall, func() { w.p.stop(fmt.Errorf("nothing of %s came for %v", w.what, maxStall)) })
	n, err := w.r.Read(b)
	stall.Stop()
	w.read += int64(n)
	if now := time.Now(); now.Sub(w.told) >= tellEvery {
		w.told = now
		if w.size > 0 {
			w.p.say("%s: %d of %d MB", w.what, w.read>>20, w.size>>20)
		} else {
			w.p.say("%s: %d MB", w.what, w.read>>20)
		}
	}
	return n, err
}
