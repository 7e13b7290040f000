package server

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// processors keeps the program on as few processors as it fills. A call is handed
// from goroutine to goroutine four times, and each time Go wakes another thread to
// look for work: one that sleeps on an idle processor, for 20 to 60 us, or one that
// has to wait for its turn beside a function that computes, while what it is to look
// at waits, too. On one processor nobody is woken: a lone call is 40 to 120 us faster
// at the median and takes a third less CPU, and beside busy functions the slowest
// calls take half as long. How many calls are under way says little of what the
// program needs, as their work is elsewhere: that is measured.
//
// It changes the whole program, so only a program that is nothing but the server
// has it.
type processors struct {
	all      int
	weight   atomic.Int32 // of the requests under way
	watching atomic.Bool  // the timer runs
	timer    *time.Timer
	ended    atomic.Bool

	// Of whoever the timer calls, one at a time.
	n        int // processors in use
	last     time.Time
	used     time.Duration // CPU time as of then
	needed   time.Time     // when half of them would last have been too few
	interval time.Duration
	garbage  garbage
}

// What requests weigh: from over one on, it is watched what the program computes.
const (
	light = 1 // a call, whose work is elsewhere, or a question
	heavy = 2 // what changes something: archives are unpacked, code is built
)

const (
	lookAfter   = 10 * time.Millisecond
	lookSeldom  = 100 * time.Millisecond // while next to nothing is computed
	full        = 0.9                    // of what the processors can do: there are to be twice as many
	half        = 0.85                   // of what half of them could do: less than that, for long enough, and there are half as many; a fifth of it is for looking for work
	narrowAfter = time.Second            // changing their number stops the program for a moment, some 50 us
)

func newProcessors(ownGarbage bool) *processors {
	p := &processors{all: runtime.GOMAXPROCS(0), last: time.Now(), used: cpuTime(), needed: time.Now(), interval: lookAfter, garbage: garbage{ours: ownGarbage}}
	p.n = p.all
	p.watching.Store(true)
	p.timer = time.AfterFunc(time.Hour, p.look)
	p.timer.Reset(lookAfter) // look resets it itself
	return p
}

// enter notes a request that begins. The receiver may be nil: then nothing is done.
func (p *processors) enter(weight int32) {
	if p != nil && p.weight.Add(weight) > light && !p.watching.Load() {
		p.watch()
	}
}

// leave notes its end.
func (p *processors) leave(weight int32) {
	if p != nil {
		p.weight.Add(-weight)
	}
}

func (p *processors) watch() {
	if p.watching.CompareAndSwap(false, true) {
		p.last = time.Time{}
		p.timer.Reset(lookAfter)
	}
}

// look compares what the program has computed with what it could have.
func (p *processors) look() {
	if p.ended.Load() {
		return
	}
	now, used := time.Now(), cpuTime()
	if !p.last.IsZero() {
		busy := float64(used-p.used) / float64(now.Sub(p.last))
		if n := p.want(busy, now); n != p.n {
			p.n = n
			runtime.GOMAXPROCS(n)
		}
		p.garbage.look(busy, now)
		p.interval = lookAfter
		if busy < 0.1 {
			p.interval = lookSeldom
		}
	}
	p.last, p.used = now, used
	if p.n == 1 && !p.garbage.loaded && p.weight.Load() <= light {
		p.watching.Store(false)
		if p.weight.Load() > light { // one came meanwhile
			p.watch()
		}
		return
	}
	p.timer.Reset(p.interval)
}

// want is how many processors there are to be, where so many have been busy.
func (p *processors) want(busy float64, now time.Time) int {
	switch {
	case busy > full*float64(p.n):
		p.needed = now
		return min(2*p.n, p.all)
	case busy > half*float64(p.n)/2:
		p.needed = now
	case p.n > 1 && now.Sub(p.needed) > narrowAfter:
		p.needed = now
		return (p.n + 1) / 2
	}
	return p.n
}

// close gives the program all processors for good.
func (p *processors) close() {
	if p == nil {
		return
	}
	p.ended.Store(true)
	p.timer.Stop()
	runtime.GOMAXPROCS(p.all)
}

// cpuTime is what the program has computed so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
