package server

import (
	"runtime"
	"sync/atomic"
	"time"
)

// processors keeps the program on one processor while one call at a time is all
// that it serves. A call is handed from goroutine to goroutine four times, and each
// time Go wakes another thread to look for work: one that sleeps on an idle
// processor, for 20 to 60 us, finds nothing and sleeps again. On one processor
// nobody is woken: a call is 40 to 120 us faster at the median, and takes a third
// less CPU. As soon as there are several at a time, or a request that may compute
// for long, all processors are used again, until they have not been needed for a
// second.
//
// It changes the whole program, so only a program that is nothing but the server
// has it.
type processors struct {
	all    int
	weight atomic.Int32 // of the requests under way
	wide   atomic.Bool  // all processors are in use
	needed atomic.Bool  // since the timer last looked
	timer  *time.Timer
	ended  atomic.Bool
}

// What requests weigh: over one, all processors are used.
const (
	light = 1 // a call, whose work is elsewhere, or a question
	heavy = 2 // what changes something: archives are unpacked, code is built
)

// narrowAfter is how long several processors are kept without need. Changing their
// number stops the program for a moment, some 50 us.
const narrowAfter = time.Second

func newProcessors() *processors {
	p := &processors{all: runtime.GOMAXPROCS(0)}
	p.wide.Store(true)
	p.timer = time.AfterFunc(narrowAfter, p.narrow)
	return p
}

// enter notes a request that begins. The receiver may be nil: then nothing is done.
func (p *processors) enter(weight int32) {
	if p == nil || p.weight.Add(weight) <= light {
		return
	}
	if !p.needed.Load() {
		p.needed.Store(true)
	}
	if !p.wide.Load() && p.wide.CompareAndSwap(false, true) {
		runtime.GOMAXPROCS(p.all)
		p.timer.Reset(narrowAfter)
	}
}

// leave notes its end.
func (p *processors) leave(weight int32) {
	if p != nil {
		p.weight.Add(-weight)
	}
}

// narrow goes back to one processor, unless more were needed lately.
func (p *processors) narrow() {
	switch {
	case p.ended.Load():
	case p.needed.Swap(false) || p.weight.Load() > light:
		p.timer.Reset(narrowAfter)
	default:
		runtime.GOMAXPROCS(1)
		p.wide.Store(false)
		if p.weight.Load() > light && p.wide.CompareAndSwap(false, true) { // one came meanwhile
			runtime.GOMAXPROCS(p.all)
			p.timer.Reset(narrowAfter)
		}
	}
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
