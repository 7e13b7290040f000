package intake_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"lambent"
	"lambent/internal/intake"
)

// read takes in so many bytes of a project's, and returns what is to be released.
func read(r *intake.Room, project string, n int) (*intake.Body, error) {
	b := r.Body(project, io.NopCloser(bytes.NewReader(make([]byte, n))))
	_, err := io.Copy(io.Discard, &b)
	return &b, err
}

func TestRoom(t *testing.T) {
	r := intake.New(2 << 20)
	wants := func(project string, n int, ok bool) *intake.Body {
		t.Helper()
		b, err := read(r, project, n)
		if e, refused := err.(*lambent.Error); ok != (err == nil) || refused && (e.Kind != lambent.Throttled || e.RetryAfter == 0) {
			t.Errorf("%d bytes of %s: %v", n, project, err)
		}
		return b
	}
	first := wants("a", 1<<20, true)
	wants("a", 64<<10, false).Release()
	wants("a", 4<<10, true).Release() // takes none
	wants("b", 1<<20+1, false).Release()
	second := wants("b", 1<<20-1, true)
	wants("c", 5<<10, false).Release()
	second.Release()
	wants("c", 1<<20, true).Release()
	first.Release()
	first.Release()
	wants("a", 1<<20, true).Release()
	if b, err := read(nil, "a", 9<<20); err != nil {
		t.Error(err)
	} else {
		b.Release()
	}
}

// TestHammerRoom has many read and release at the same time: there is never more than there is
// room for, and all of it in the end.
func TestHammerRoom(t *testing.T) {
	const room = 512 << 10
	r := intake.New(room)
	var held, refused atomic.Int64
	var wg sync.WaitGroup
	for k := range 16 {
		project := string(rune('a' + k%4))
		wg.Go(func() {
			for range 200 {
				n := rand.IntN(200 << 10)
				b, err := read(r, project, n)
				switch {
				case err != nil:
					refused.Add(1)
				case held.Add(int64(n)) > room+16*(4<<10):
					t.Error("more is held than there is room for")
					fallthrough
				default:
					runtime.Gosched()
					held.Add(-int64(n))
				}
				b.Release()
			}
		})
	}
	wg.Wait()
	if refused.Load() == 0 {
		t.Error("nobody was refused: it does not try")
	}
	for _, project := range []string{"a", "b"} {
		b, err := read(r, project, room/2)
		if err != nil {
			t.Errorf("in the end: %v", err)
		}
		defer b.Release()
	}
}
