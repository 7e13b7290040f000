// Package power cuts the power of a machine in which a server takes work, over and over,
// and looks for what it had acknowledged.
//
//	LAMBENT_TEST_CUTS=50 go test ./test/power -v    for as long as that takes
package power

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"lambent/test/machine"
	"lambent/test/workload"
)

func TestCuts(t *testing.T) {
	machine.Need(t)
	cuts := 3
	if n, err := strconv.Atoi(os.Getenv("LAMBENT_TEST_CUTS")); err == nil {
		cuts = n
	}
	programs := map[string]string{}
	for _, source := range []string{"cmd/lambent", "test/workload/recorder", "test/power/inside"} {
		programs[filepath.Base(source)] = machine.Compile(t, "lambent/"+source, "build")
	}
	machine.Watch(t, "lambent/cmd/lambent", "lambent/test/power/inside", "lambent/test/workload/recorder", "lambent/test/power")
	m := machine.New(t, programs)

	// What was written stays written, but not what was in the kernel's memory.
	t.Run("kernel", func(t *testing.T) {
		m.Disk = "format=raw,cache=none,file=" + newImage(t)
		cutAgain(t, m, cuts, func() {}, func() {})
	})
	// Nor what was in the disk's.
	t.Run("cache", func(t *testing.T) {
		disk := newDisk(t, newImage(t))
		m.Disk = disk.drive()
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 0))
		atFlush := func() { // when there is most to lose
			select {
			case <-disk.hold():
			case <-time.After(5 * time.Second):
			}
		}
		cutAgain(t, m, cuts, atFlush, func() {
			keep := []float64{0, 0.1, 0.5, 0.9}[r.IntN(4)]
			sectors, err := disk.cut(r, keep)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d sectors were not flushed; each is on the disk with a probability of %v", sectors, keep)
		})
	})
	// A disk that says that it has flushed and has not has to lose something, or the tests
	// above see nothing.
	t.Run("lying disk", func(t *testing.T) {
		disk := newDisk(t, newImage(t))
		m.Disk = disk.drive()
		out := &output{diary: new(workload.Diary)}
		off := out.run(t, m, 0, time.Hour)
		disk.lie()
		out.wait(100)
		off()
		if _, err := disk.cut(nil, 0); err != nil {
			t.Fatal(err)
		}
		out.look(t, m, 10*time.Second)
		if lost := out.diary.Lost(); len(lost) == 0 {
			t.Errorf("nothing is lost: %v", out.diary)
		}
	})
}

// newImage makes a disk with an empty file system.
func newImage(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0", image, "1G").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	return image
}

// cutAgain cuts the power some times, each time at any moment of work, and looks for what
// was acknowledged. before and after are called before and after each cut.
func cutAgain(t *testing.T, m machine.Machine, cuts int, before, after func()) {
	t.Helper()
	out := &output{diary: new(workload.Diary)}
	for round := range cuts {
		early := time.Hour
		if round%5 == 4 { // or while it is still at what the last cut has left
			early = time.Duration(rand.IntN(8000)) * time.Millisecond
		}
		off := out.run(t, m, round, early)
		out.wait(rand.IntN(100))
		for round == cuts-1 && out.diary.Unseen() != nil && out.wait(1) { // or the test sees too little
		}
		before()
		off()
		after()
	}
	out.look(t, m, time.Minute)
	t.Logf("%d cuts; %v", cuts, out.diary)
	for _, lost := range out.diary.Lost() {
		t.Error(lost)
	}
	if none := out.diary.Unseen(); none != nil {
		t.Errorf("nothing was acknowledged of %v: the test saw too little", none)
	}
}

// An output is what a machine says. It is written to by one goroutine.
type output struct {
	diary *workload.Diary

	part []byte // of a line
	mu   sync.Mutex
	said bytes.Buffer  // what was no fact
	up   chan struct{} // closed once work begins
	news chan struct{} // gets what is known, a fact at a time, if anybody waits for it
}

func (o *output) Write(p []byte) (int, error) {
	o.part = append(o.part, p...)
	for {
		line, rest, whole := bytes.Cut(o.part, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		o.part = rest
		if f, ok := workload.ParseFact(string(line)); ok {
			o.diary.Know(f)
			select {
			case o.news <- struct{}{}:
			default:
			}
			continue
		}
		if bytes.Equal(line, []byte("UP")) {
			close(o.up)
		}
		o.mu.Lock()
		o.said.Write(append(line, '\n'))
		o.mu.Unlock()
	}
}

// wait returns after some facts, or, and then false, when there have been none for a while.
func (o *output) wait(facts int) bool {
	for range facts {
		select {
		case <-o.news:
		case <-time.After(5 * time.Second):
			return false
		}
	}
	return true
}

// run boots a machine and returns once work has begun in it, or early.
func (o *output) run(t *testing.T, m machine.Machine, round int, early time.Duration) (off func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	o.up, o.news, o.part = make(chan struct{}), make(chan struct{}), nil
	o.said.Reset()
	go func() {
		defer close(ended)
		m.Run(ctx, t, o, []string{"/usr/bin/inside", "-round", strconv.Itoa(round)}, nil)
	}()
	off = func() {
		cancel()
		<-ended
	}
	var err error
	select {
	case <-o.up:
		return off
	case <-time.After(early):
		return off
	case <-ended:
		err = errors.New("it ended")
	case <-time.After(2 * time.Minute):
		err = errors.New("nothing happens")
	}
	off()
	t.Fatalf("round %d: %v:\n%s", round, err, &o.said)
	return nil
}

// look waits for what has not run, for as long as there comes some of it in that time.
func (o *output) look(t *testing.T, m machine.Machine, patience time.Duration) {
	t.Helper()
	defer o.run(t, m, -1, time.Hour)()
	for last, since := o.diary.Waiting(), time.Now(); last > 0 && time.Since(since) < patience; time.Sleep(20 * time.Millisecond) {
		if n := o.diary.Waiting(); n < last {
			last, since = n, time.Now()
		}
	}
}
