package dispatch

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// A slowLog takes its time for each line, and counts them.
type slowLog struct {
	t     *testing.T
	each  time.Duration
	lines int
	took  time.Duration
}

func (l *slowLog) Line(_ time.Time, _, _ string, text []byte) {
	if want := fmt.Sprintf("line %d", l.lines); string(text[:len(want)]) != want {
		l.t.Errorf("%.20q, want %s", text, want)
	}
	begun := time.Now()
	time.Sleep(l.each)
	l.lines++
	l.took += time.Since(begun)
}

// Who writes more than there is time to read waits for it, and nothing of it is lost.
func TestOutputIsPaced(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := &slowLog{t: t, each: time.Millisecond}
	begun := time.Now()
	o := newOutput(r, l, "1")
	n := 0
	for ; time.Since(begun) < time.Second; n++ {
		if _, err := fmt.Fprintf(w, "line %d %01000d\n", n, 0); err != nil {
			t.Fatal(err)
		}
	}
	o.mu.Lock()
	took, elapsed := l.took, time.Since(begun)
	o.mu.Unlock()
	if share := float64(took) / float64(elapsed); share > 2./readShare {
		t.Errorf("reading took %v of %v", took, elapsed)
	}
	w.Close()
	for lines := 0; lines < n; {
		time.Sleep(10 * time.Millisecond)
		o.mu.Lock()
		lines = l.lines
		o.mu.Unlock()
	}
}
