package dispatch

import (
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lambent/sandbox"
	"lambent/scale"
)

// A balance has the processors of the node divided between projects while more than
// one call is under way: it looks ten times a second at what each instance has
// computed, and holds instances to what scale.Shares says. While only one project
// has instances, or one call is under way, nobody is held to anything, and on the
// way of a call there is nothing but the question whether somebody looks.
type balance struct {
	d        *Dispatcher
	any      atomic.Bool // there were instances whose share can be set
	watching atomic.Bool // the timer runs
	full     atomic.Bool // no processor of the machine was idle between the last two looks

	mu    sync.Mutex // guards what follows; a sandbox's meters are read with it held
	all   map[*instance]*share
	scale scale.Shares
	timer *time.Timer // nil: never needed
	last  time.Duration
	busy  time.Duration // when more than one call was last under way
	idle  time.Duration // for how long processors had been when that was last read
	read  time.Duration // when that was
}

// A share is what a balance knows of an instance.
type share struct {
	scale.Share
	cpuUS int64 // as of the last look

	want atomic.Uint64 // what it is to be held to; a float64's bits
	mu   sync.Mutex    // guards told, and is held while the sandbox is told
	told float64
}

const (
	lookEvery    = 100 * time.Millisecond
	lookAfter    = 5 * time.Millisecond // that a project's first instance has come; the clock that counts CPU time may be as coarse
	lookFor      = time.Second          // after the last time that it mattered
	worthTelling = 0.05                 // the least change
	fullFrom     = 0.15                 // of the processors are idle at the most when they are full from then on; the clock ticks each 10 ms
	fullTo       = 0.35                 // are idle when they are not full any more: with fewer at work there is more waiting for each other
)

func newBalance(d *Dispatcher) *balance { return &balance{d: d, all: map[*instance]*share{}} }

// watch begins to look, unless somebody does.
func (s *balance) watch() {
	if s.watching.Load() || !s.any.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchLocked()
}

func (s *balance) watchLocked() {
	if !s.watching.CompareAndSwap(false, true) {
		return
	}
	s.busy = s.d.now()
	s.readLocked()
	s.last, s.read, s.idle = s.busy, s.busy, idled()
	if s.timer == nil {
		s.timer = time.AfterFunc(lookEvery, s.look)
	} else {
		s.timer.Reset(lookEvery)
	}
}

// join tells of an instance that is about to start, if its share can be set.
func (s *balance) join(in *instance) {
	if _, ok := sandbox.Unwrap(in.sandbox).(sandbox.Sharer); !ok {
		return
	}
	cpu, _, _ := in.sandbox.Stats()
	sh := &share{Share: scale.Share{Project: in.p.rev.Name.Project, Weight: float64(in.p.rev.Config.MemoryMB), Part: 1}, cpuUS: cpu, told: 1}
	sh.want.Store(math.Float64bits(1))
	s.mu.Lock()
	defer s.mu.Unlock()
	first := true
	for _, o := range s.all {
		if o.Project == sh.Project {
			first = false
			break
		}
	}
	s.all[in] = sh
	s.any.Store(true)
	if s.d.inflight.Load() > 1 { // they came before there was anything to look at
		s.watchLocked()
	}
	if first && s.watching.Load() { // whoever computes makes room for it at once
		s.timer.Reset(lookAfter)
	}
}

func (s *balance) leave(in *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, in)
}

// readLocked reads what instances have computed since they were last read, and
// reports whether they are of more than one project.
func (s *balance) readLocked() (list []*scale.Share, several bool) {
	for in, sh := range s.all {
		sh.Used = 0
		if !in.rests() {
			if cpu, _, err := in.sandbox.Stats(); err == nil {
				sh.Used, sh.cpuUS = time.Duration(max(0, cpu-sh.cpuUS))*time.Microsecond, cpu
			}
		}
		several = several || len(list) > 0 && list[0].Project != sh.Project
		list = append(list, &sh.Share)
	}
	return list, several
}

// look divides the processors anew.
func (s *balance) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.d.now()
	list, several := s.readLocked()
	s.scale.Look(now-s.last, list)
	s.fillLocked(now, idled())
	s.last = now
	if s.d.inflight.Load() > 1 {
		s.busy = now
	}
	over := now-s.busy > lookFor || s.d.alive.Err() != nil
	for in, sh := range s.all {
		part := sh.Part
		if over || !several {
			part = 1
		}
		if want := math.Float64frombits(sh.want.Load()); math.Abs(part-want) > worthTelling*want || part == 1 && want != 1 {
			sh.want.Store(math.Float64bits(part))
			go sh.tell(in)
		}
	}
	if over {
		s.watching.Store(false)
		s.full.Store(false)
		if s.d.inflight.Load() > 1 && s.d.alive.Err() == nil { // one came meanwhile
			s.watchLocked()
		}
		return
	}
	s.timer.Reset(lookEvery)
}

// fillLocked takes note of whether the processors are full, where they have been idle for so long
// altogether by now. Of a look that comes sooner than others there is too little to tell.
func (s *balance) fillLocked(now, idle time.Duration) {
	since := now - s.read
	if since < lookEvery {
		return
	}
	most := fullFrom
	if s.full.Load() {
		most = fullTo
	}
	part := float64(idle-s.idle) / float64(since) / float64(runtime.NumCPU())
	s.full.Store(idle > 0 && part < most)
	s.read, s.idle = now, idle
}

// idled is for how long processors of the machine have been idle since it was booted, all
// of them together; 0: nobody knows.
func idled() time.Duration {
	b, _ := os.ReadFile("/proc/uptime")
	_, idle, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	s, _ := strconv.ParseFloat(idle, 64)
	return time.Duration(s * float64(time.Second))
}

// tell has the sandbox held to what is wanted by now. One that cannot be is
// destroyed, which its next call finds.
func (sh *share) tell(in *instance) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if want := math.Float64frombits(sh.want.Load()); want != sh.told {
		sh.told = want
		_ = in.sandbox.(sandbox.Sharer).Share(want)
	}
}
