package dispatch

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/sandbox"
)

const (
	parkedAtRest = 2                     // sandboxes that wait for each runtime that was ever wanted
	refillAfter  = 10 * time.Millisecond // that a sandbox was taken, unless it was the last: the call that has it comes first
	demandWindow = 2 * time.Second       // as many as were taken in such a time wait, up to the limit
	restAfter    = 10 * time.Second      // without demand; then more than those at rest are let go
	tooOld       = time.Hour             // a parked sandbox is not trusted for longer
)

// A berth is a sandbox with its runtime booted, ready to be assigned: parked, or
// on its way from there into an instance.
type berth struct {
	sandbox sandbox.Sandbox
	guest   guest.Instance
	since   time.Time
	taken   chan struct{} // closed when it leaves the lot
}

// A parking keeps sandboxes parked ahead of demand, in a lot for each runtime, so
// that a cold start needs none of the runtime's boot. What is in a lot has seen
// nothing of a user's; what leaves it is assigned once, and never comes back.
type parking struct {
	d        *Dispatcher
	builders chan struct{} // a token for each sandbox that is being parked

	mu   sync.Mutex
	lots map[stall]*lot
}

// A stall is what sandboxes are parked for: a runtime, and what of its packages is
// loaded in it.
type stall struct{ runtime, preloads string }

func stallOf(rt lambent.Runtime) stall { return stall{rt.Name, rt.Preloads} }

// A lot is guarded by its parking's lock.
type lot struct {
	rt      lambent.Runtime
	parked  []*berth // the oldest first
	making  int
	taken   int // in the window that began at window
	before  int // in the window before that
	window  time.Time
	tidying *time.Timer
	filling *time.Timer // fills the lot up later; nil: it does not run
}

func newParking(d *Dispatcher) *parking {
	// More builders than processors would only make each sandbox take longer.
	return &parking{d: d, builders: make(chan struct{}, runtime.NumCPU()), lots: map[stall]*lot{}}
}

// errUnneeded is the end of a start that nobody waits for any more.
var errUnneeded = errors.New("dispatch: the start is not needed any more")

// take returns a sandbox of the runtime: a parked one, or else one made now. That
// may have to wait for others that are being made, of which no more than half are for
// starts ahead, those apart for which somebody waits by now, as wanted tells (nil: this start is
// not ahead). If it is not needed any more when it is its turn, the error is errUnneeded.
func (p *parking) take(ctx context.Context, rt lambent.Runtime, wanted <-chan struct{}, needed func() bool) (*berth, error) {
	if b := p.leave(rt); b != nil {
		return b, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.d.cfg.Limits.InitTimeout, lambent.Errorf(lambent.Unavailable, "dispatch", "no sandbox of %s could be made within %v", rt.Name, p.d.cfg.Limits.InitTimeout))
	defer cancel()
	if wanted != nil {
		select {
		case p.d.ahead <- struct{}{}:
			defer func() { <-p.d.ahead }()
		case <-wanted:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	select {
	case p.d.starts <- struct{}{}:
		defer func() { <-p.d.starts }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if !needed() {
		return nil, errUnneeded
	}
	b, err := p.make(ctx, rt)
	if errors.Is(err, context.DeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return b, err
}

// leave takes the oldest parked sandbox out of the runtime's lot, or returns nil,
// and sees that the lot is filled up.
func (p *parking) leave(rt lambent.Runtime) *berth {
	if p.d.cfg.Parked == 0 || rt.BootLate { // what is parked is booted
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lots[stallOf(rt)]
	if l != nil && !l.serves(rt) { // the runtime was replaced
		p.emptyLocked(l, 0)
		l = nil
	}
	if l == nil {
		l = &lot{rt: rt, window: time.Now()}
		l.tidying = time.AfterFunc(restAfter, func() { p.tidy(l) })
		p.lots[stallOf(rt)] = l
	}
	l.note(time.Now())
	var b *berth
	if len(l.parked) > 0 {
		b = l.parked[0]
		l.parked = slices.Delete(l.parked, 0, 1)
		close(b.taken)
	}
	switch {
	case len(l.parked) == 0:
		p.fillLocked(l)
	case l.filling == nil:
		l.filling = time.AfterFunc(refillAfter, func() { p.refill(l) })
	}
	return b
}

// refill fills a lot up once the call that took a sandbox has had time to be
// answered: on few processors making another would compete with it.
func (p *parking) refill(l *lot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.filling = nil
	if p.lots[stallOf(l.rt)] == l {
		p.fillLocked(l)
	}
}

func (l *lot) serves(rt lambent.Runtime) bool {
	return l.rt.Root == rt.Root && l.rt.Packages == rt.Packages && l.rt.PackagesAt == rt.PackagesAt && l.rt.Guest == rt.Guest && slices.Equal(l.rt.Boot, rt.Boot) && maps.Equal(l.rt.Env, rt.Env)
}

// note counts one more taken.
func (l *lot) note(now time.Time) {
	l.roll(now)
	l.taken++
}

// roll begins a new window if the last one is over.
func (l *lot) roll(now time.Time) {
	switch age := now.Sub(l.window); {
	case age >= 2*demandWindow:
		l.before, l.taken, l.window = 0, 0, now
	case age >= demandWindow:
		l.before, l.taken, l.window = l.taken, 0, now
	}
}

// wanted is how many sandboxes should wait.
func (p *parking) wanted(l *lot) int {
	return min(max(parkedAtRest, l.taken, l.before), p.d.cfg.Parked)
}

func (p *parking) fillLocked(l *lot) {
	for n := p.wanted(l) - len(l.parked) - l.making; n > 0 && p.d.begin(); n-- {
		l.making++
		go func() {
			defer p.d.starting.Done()
			p.park(l)
		}()
	}
}

// park makes one sandbox and puts it into the lot, if it is still wanted there. A
// failure is for the next cold start to find: that one has somebody to tell.
func (p *parking) park(l *lot) {
	p.builders <- struct{}{}
	ctx, cancel := context.WithTimeout(p.d.alive, p.d.cfg.Limits.InitTimeout)
	ahead := l.rt
	ahead.Ahead = true
	b, err := p.make(ctx, ahead)
	cancel()
	<-p.builders
	if err == nil {
		if r, ok := b.guest.(guest.Rehearser); ok { // before anybody can take it
			_ = r.Rehearse() // a runtime that cannot has ended, which its guard finds
		}
	}
	p.mu.Lock()
	l.making--
	keep := err == nil && p.lots[stallOf(l.rt)] == l && len(l.parked) < p.wanted(l)
	if keep {
		l.parked = append(l.parked, b)
	}
	p.mu.Unlock()
	switch {
	case err != nil:
		p.d.cfg.Logger.Debug("no sandbox can be parked", "runtime", l.rt.Name, "error", err)
	case keep:
		p.guard(l, b)
	default:
		p.d.release(b)
	}
}

// guard takes a parked sandbox that ended by itself out of the lot. It returns
// when the sandbox has left either way.
func (p *parking) guard(l *lot, b *berth) {
	go func() {
		select {
		case <-b.taken:
			return
		case <-b.sandbox.Done():
		}
		p.mu.Lock()
		i := slices.Index(l.parked, b)
		if i >= 0 {
			l.parked = slices.Delete(l.parked, i, i+1)
		}
		p.mu.Unlock()
		if i >= 0 {
			p.d.release(b)
		}
	}()
}

// make parks one sandbox with the runtime booted in it.
func (p *parking) make(ctx context.Context, rt lambent.Runtime) (*berth, error) {
	g, ok := p.d.cfg.Guests[rt.Guest]
	if !ok {
		return nil, lambent.Errorf(lambent.Unsupported, "dispatch", "runtime %s needs the guest %q, which this server does not have", rt.Name, rt.Guest)
	}
	sb, err := p.d.cfg.Driver.Park(ctx, rt)
	if err != nil {
		return nil, err
	}
	b := &berth{sandbox: sb, since: time.Now(), taken: make(chan struct{})}
	if b.guest, err = g.Attach(ctx, sb, rt); err != nil {
		p.d.release(b)
		return nil, err
	}
	return b, nil
}

// tidy lets go of what is too old, or more than the lot needs at rest.
func (p *parking) tidy(l *lot) {
	rt, err := p.d.cfg.Runtime(l.rt.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lots[stallOf(l.rt)] != l || p.d.alive.Err() != nil {
		return
	}
	if err != nil || l.rt.Preloads != "" && l.rt.Preloads != rt.Preloads { // nothing will be served by it any more
		p.emptyLocked(l, 0)
		delete(p.lots, stallOf(l.rt))
		return
	}
	now := time.Now()
	l.roll(now)
	p.emptyLocked(l, p.wanted(l))
	for len(l.parked) > 0 && now.Sub(l.parked[0].since) > tooOld {
		p.emptyLocked(l, len(l.parked)-1)
	}
	p.fillLocked(l)
	l.tidying.Reset(restAfter)
}

// emptyLocked lets the oldest go until n are left.
func (p *parking) emptyLocked(l *lot, n int) {
	for len(l.parked) > n {
		b := l.parked[0]
		l.parked = slices.Delete(l.parked, 0, 1)
		close(b.taken)
		go p.d.release(b)
	}
}

// count returns how many sandboxes are parked.
func (p *parking) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lots {
		n += len(l.parked)
	}
	return n
}

// close destroys what is parked. Nothing is parked after it.
func (p *parking) close() {
	p.mu.Lock()
	var all []*berth
	for _, l := range p.lots {
		l.tidying.Stop()
		for _, b := range l.parked {
			close(b.taken)
		}
		all = append(all, l.parked...)
		l.parked = nil
	}
	clear(p.lots)
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, b := range all {
		wg.Go(func() { p.d.release(b) })
	}
	wg.Wait()
}

// release ends a sandbox that is no instance's.
func (d *Dispatcher) release(b *berth) {
	if b.guest != nil {
		_ = b.guest.Stop(context.Background())
	}
	d.destroy(b.sandbox)
	if out := b.sandbox.Output(); out != nil {
		out.Close()
	}
}

func (d *Dispatcher) destroy(sb sandbox.Sandbox) {
	if err := sb.Destroy(); err != nil {
		d.cfg.Logger.Error("a sandbox cannot be destroyed", "sandbox", sb.ID(), "error", err)
	}
}
