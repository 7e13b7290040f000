// Package dispatch is the synchronous path: it finds an instance for an
// invocation, or starts one, runs the invocation in it under one deadline, and
// sees that its usage and its log are kept before the caller has the answer.
//
// Nothing here is durable and nothing here waits for the store: what the package
// consumes is declared in [Config] in the root's types, and server plugs it in.
// Instances live in pools, one for each revision; the idle ones are a stack, so
// that the hottest serves next and the rest may idle out. No lock is shared
// between functions on the way of a warm call.
package dispatch

import (
	"context"
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/sandbox"
	"lambent/scale"
)

// A Log takes the lines of one function's log. Line is called for each line, may
// be called concurrently, must not block, and must not keep text.
type Log interface {
	Line(at time.Time, version, request string, text []byte)
}

// A Config is what a Dispatcher consumes. Every function may be called
// concurrently; those marked hot are called for each invocation.
type Config struct {
	Resolve func(lambent.Name) (lambent.Target, error)                       // hot
	Led     func(lambent.Name) ([]lambent.Target, error)                     // what calls without a version are led to: latest, and what aliases lead to
	Usage   func(*lambent.Usage) error                                       // hot; an error withholds the answer
	Runtime func(name string) (lambent.Runtime, error)                       // at a start
	Tree    func(*lambent.Revision, lambent.Runtime) (dir string, err error) // at a start
	Secrets func(*lambent.Revision) (map[string]string, error)               // at a start; nil: there are none
	Log     func(lambent.Name) Log                                           // at a pool's creation
	Driver  sandbox.Driver
	Guests  map[string]guest.Guest
	Limits  lambent.Limits
	Logger  *slog.Logger

	KeepAlive    *time.Duration    // of idle instances, where the function does not say; nil: as long as they are worth it
	MaxInstances int               // on this node
	MemoryMB     int               // that instances may be promised together; 0: no bound
	Learnt       map[string][]byte // what an earlier Dispatcher's Learnt returned, where KeepAlive does not say; may be nil
	MaxQueue     int               // invocations that wait, per function
	MaxStarts    int               // of a function per second, and ten times as many at once after a pause; 0: 100
	Starts       int               // runtimes that boot at a time for instances, half of them ahead of calls at the most; 0: twice the processors
	Parked       int               // sandboxes of each runtime that wait for cold starts, at most; 0: none
	FreezeAfter  time.Duration     // that an instance was idle; 0: never
}

// A Dispatcher runs invocations. It implements lambent.Invoker for synchronous
// ones.
type Dispatcher struct {
	cfg       Config
	starts    chan struct{} // a token for each runtime that boots for a start
	ahead     chan struct{} // and another for each of a start ahead
	parking   *parking
	functions sync.Map           // by functionKey: *function
	pools     sync.Map           // revision id -> *pool; one that is abandoned is its own key
	projects  sync.Map           // name -> *atomic.Int64: invocations under way
	alive     context.Context    // ends with Close: no start outlives it
	cancel    context.CancelFunc // of alive

	provisioning sync.Mutex // one function at a time is told what it has ready

	startMu  sync.Mutex     // guards closed and what is added to starting
	closed   bool           // nothing starts any more
	starting sync.WaitGroup // what Close must wait for before it looks for what there is

	node     *node
	balance  *balance
	learnt   learnt
	epoch    time.Time    // what pools count time from
	made     atomic.Int64 // pools that ever were
	inflight atomic.Int64
	apart    atomic.Int64 // of inflight: those that Close does not wait for
	draining atomic.Bool
	drained  chan struct{}
	once     sync.Once // closes drained
}

var _ lambent.Invoker = (*Dispatcher)(nil)

// New returns a Dispatcher.
func New(cfg Config) *Dispatcher {
	if cfg.Starts == 0 {
		cfg.Starts = 2 * runtime.GOMAXPROCS(0)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{cfg: cfg, starts: make(chan struct{}, cfg.Starts), ahead: make(chan struct{}, max(1, cfg.Starts/2)), drained: make(chan struct{}), epoch: time.Now()}
	d.node, d.balance = newNode(d), newBalance(d)
	d.learnt.kept = maps.Clone(cfg.Learnt)
	d.alive, d.cancel = context.WithCancel(context.Background())
	d.parking = newParking(d)
	return d
}

// Invoke implements lambent.Invoker. A caller who is gone while the invocation
// waits takes it along; once it runs it runs to its end, as on Lambda.
func (d *Dispatcher) Invoke(ctx context.Context, inv *lambent.Invocation, reply lambent.Reply) error {
	if d.inflight.Add(1) > 1 {
		d.balance.watch()
	}
	defer d.leave()
	if d.draining.Load() {
		return errDraining
	}
	t, err := d.cfg.Resolve(inv.Target)
	if err != nil {
		return err
	}
	if err := d.node.holds(t.Revision); err != nil {
		return err
	}
	running, err := d.enter(t)
	if err != nil {
		return err
	}
	defer running.Add(-1)
	a := newAttempt(d, inv, t, reply)
	defer func() {
		if a.apart {
			d.apart.Add(-1)
		}
	}()
	for try := 1; ; try++ {
		g, err := d.pool(t).acquire(ctx, t.Scaling, a)
		if err != nil {
			return err
		}
		if g.failed != nil {
			a.failed(g.failed)
			return a.err
		}
		if again, err := a.run(ctx, g.instance, try < maxTries); !again {
			return err
		}
	}
}

// maxTries bounds how many instances an invocation may find dead before it is
// told so: code that ends after its init would have it go round for ever.
const maxTries = 3

var errDraining = lambent.Errorf(lambent.Unavailable, "dispatch", "the server is shutting down")

func (d *Dispatcher) now() time.Duration { return time.Since(d.epoch) }

func (d *Dispatcher) leave() {
	d.inflight.Add(-1)
	d.look()
}

// look tells Close when there is nothing more to wait for. What is apart is counted
// last: it may have left, but not come.
func (d *Dispatcher) look() {
	if d.draining.Load() && d.inflight.Load() == d.apart.Load() {
		d.once.Do(func() { close(d.drained) })
	}
}

// pool returns the pool of a target's revision, which may be a new one.
func (d *Dispatcher) pool(t lambent.Target) *pool {
	if p, ok := d.pools.Load(t.Revision.ID); ok {
		return p.(*pool)
	}
	f := d.lock(t.Revision.Name)
	p, made := f.poolLocked(t.Revision)
	f.mu.Unlock()
	if made {
		d.learnt.recall(p)
	}
	return p
}

// Prepare starts one instance of a revision and leaves it idle in its pool: what
// a deploy does before the revision serves, of a function that is then scaled so (nil: not
// known). It counts for no maximum, as no call gets it before there is room. A
// *lambent.Fault as error is the code's own failure.
func (d *Dispatcher) Prepare(ctx context.Context, rev *lambent.Revision, scaling *lambent.Scaling) error {
	d.inflight.Add(1)
	defer d.leave()
	if d.draining.Load() {
		return errDraining
	}
	if err := d.node.holds(rev); err != nil {
		return err
	}
	return d.pool(lambent.Target{Revision: rev}).prepare(ctx, scaling)
}

// Changed tells that a function was deployed, changed or deleted: pools of
// revisions that nothing leads to any more end once their calls are answered, and what
// is to be ready is made.
func (d *Dispatcher) Changed(name lambent.Name) {
	name.Qualifier = ""
	_, err := d.cfg.Resolve(name)
	deleted := lambent.Is(err, lambent.NotFound)
	if deleted {
		d.learnt.forget(name)
	}
	if v, ok := d.functions.Load(functionKey(name)); ok {
		v.(*function).changed(deleted)
	}
	if d.begin() {
		go func() { // it may have to read versions
			defer d.starting.Done()
			d.provision(name)
		}()
	}
}

// provision sees that what is led to has its minimum, and nothing else of the function.
func (d *Dispatcher) provision(name lambent.Name) {
	d.provisioning.Lock() // what was said last counts
	defer d.provisioning.Unlock()
	led, err := d.cfg.Led(name)
	v, known := d.functions.Load(functionKey(name))
	switch {
	case lambent.Is(err, lambent.NotFound):
		if known {
			v.(*function).changed(true)
		}
	case err != nil:
		d.cfg.Logger.Error("what a function is to have ready is not known", "function", name, "error", err)
	case known || led[0].Scaling.MinInstances > 0 || led[0].Scaling.Reserved != nil:
		for _, p := range d.lock(name).provision(led) {
			d.learnt.recall(p)
		}
		d.node.relieve() // the minimum may be lower
	}
}

// CanKeep returns an error if this server does not have what a function, as it is to be,
// has set aside, beside what others have.
func (d *Dispatcher) CanKeep(f *lambent.Function) error {
	reserved := new(scale.Reservation)
	if v, ok := d.functions.Load(functionKey(f.Name)); ok {
		reserved = &v.(*function).reserved
	}
	return d.node.canReserve(f, reserved)
}

// begin registers a start, which ends with d.starting.Done, and reports whether it
// may be.
func (d *Dispatcher) begin() bool {
	d.startMu.Lock()
	defer d.startMu.Unlock()
	if d.closed {
		return false
	}
	d.starting.Add(1)
	return true
}

// Snapshot counts instances by state.
type Snapshot struct{ Idle, Busy, Starting, Queued, Parked int }

// Snapshot returns the counts as of now.
func (d *Dispatcher) Snapshot() (s Snapshot) {
	d.pools.Range(func(_, v any) bool {
		p := v.(*pool)
		p.mu.Lock()
		st := p.scale.Stats()
		s.Idle += st.Idle
		s.Starting += st.Starting
		s.Busy += st.Busy + st.Ending
		s.Queued += st.Waiting
		p.mu.Unlock()
		return true
	})
	s.Parked = d.parking.count()
	return s
}

// Close refuses new invocations, lets those under way end until ctx is done, and
// destroys every instance. A connection whose protocol was switched is not waited for:
// it may never end, and its code hears of the instance's end. Calling Close again does
// no harm.
func (d *Dispatcher) Close(ctx context.Context) error {
	d.draining.Store(true)
	d.look()
	var err error
	select {
	case <-d.drained:
	case <-ctx.Done():
		err = lambent.Errorf(lambent.Canceled, "dispatch.Close", "%d invocations were cut off", d.inflight.Load()-d.apart.Load())
	}
	d.startMu.Lock()
	d.closed = true
	d.startMu.Unlock()
	d.cancel()
	d.parking.close()
	d.starting.Wait()
	var wg sync.WaitGroup
	d.pools.Range(func(_, v any) bool {
		for _, in := range v.(*pool).close() {
			wg.Go(in.destroy)
		}
		return true
	})
	wg.Wait()
	return err
}
