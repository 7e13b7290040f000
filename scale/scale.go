// Package scale decides how many instances a function has: who serves an
// invocation, who waits, when another instance is started, how long an idle one
// is kept, when one is started ahead, and which gives way when places are short.
//
// It is for whoever runs instances: dispatch, which holds a lock around it and
// owns the timers and the sandboxes, and scale/replay, which replays a recorded
// day through the same code in virtual time. So it is pure: there is no clock,
// goroutine, lock or I/O in it. Time is an argument, as a duration since any
// origin that the caller likes, and never goes back. Nothing here is safe for
// concurrent use.
//
// A [Pool] has the instances of one revision, an [Account] what the pools of one function
// have together, a [Policy] says how long they are
// worth their memory, a [Node] has the places that pools share, [GreedyDual] says
// which of all idle instances is worth least, [Fair] who gets the next place, and
// [Shares] what projects get of the processors.
//
// Guarantees: a warm invocation ([Pool.Take], [Pool.Free]) allocates nothing; no
// instance is idle while an invocation waits, unless as many are busy as may be, or for
// moments in which processors are full; an invocation gets exactly one of an instance, a
// refusal, or its place in line back ([Pool.Leave]).
package scale

import (
	"math"
	"time"
)

// Never is a time that does not come.
const Never = time.Duration(math.MaxInt64)

// A Config is what bounds one pool. A change is taken over with [Pool.Set].
type Config struct {
	Bounds                    // of all pools of the account
	Policy      Policy        // of idle instances; nil: none is kept
	Forecast    bool          // more are started while demand grows, and kept for seconds, whatever the policy
	MemoryMB    int           // of one instance: what keeping it costs
	Concurrency int           // invocations that one instance serves at a time; 0 is 1
	Processors  int           // of the node; 0: it has more than can be filled
	Min         int           // instances that are kept ready whatever the demand (AWS: provisioned concurrency)
	QueueWait   time.Duration // wait over which an invocation is refused, predicted or, where no instance can be had, past; 0: no bound
	BackOff     time.Duration // after an init that crashed; doubled with each further one in a row; 0: none
	BackOffMax  time.Duration
	FreezeAfter time.Duration // that an instance was idle; 0: never
}

// Default returns the bounds for a function of which nothing is said, with the
// default [Policy].
func Default(memoryMB int) Config {
	return Config{
		Bounds: Bounds{Max: 1000, Queue: 1000, Rate: 100, Burst: 1000},
		Policy: NewThrift(DefaultRate), Forecast: true, MemoryMB: memoryMB, Concurrency: 1, QueueWait: 30 * time.Second, BackOff: 100 * time.Millisecond, BackOffMax: 30 * time.Second, FreezeAfter: time.Second,
	}
}

// A Host does what a [Pool] decides. Its methods are called from within the
// pool's, so they must return at once and must not call the pool.
type Host[I, W any] interface {
	// Start begins to make one instance, whose end the pool is told with Started,
	// Failed or Canceled. It returns false where the node has no place: then
	// nothing was begun, and the pool asks no more until [Pool.Place]. A start
	// ahead is for nobody yet: it is not worth that an idle instance ends.
	Start(Cause) bool
	// Enough tells that nobody waits any more for the place that Start did not have.
	Enough()
	// Full reports whether no processor of the node has been idle of late.
	Full() bool
	// Serve gives an instance to an invocation that waits.
	Serve(W, I)
	// Refuse ends the wait of an invocation that gets no instance. It had been in
	// line; for one that never was, Wait returns the refusal.
	Refuse(W, Refusal)
	// End destroys an instance that nobody uses; then the pool is told with Gone.
	End(I)
	// Freeze freezes an idle instance; it is up to the host to thaw one that the
	// pool gives to somebody.
	Freeze(I)
}

// A Cause is why an instance is started.
type Cause uint8

const (
	Demand   Cause = iota // somebody waits for it
	Forecast              // somebody is likely to want it soon
	Minimum               // it is one of those that are kept ready
)

// Ahead reports whether nobody waits for it yet.
func (c Cause) Ahead() bool { return c != Demand }

// A Reason is why an invocation is refused.
type Reason uint8

const (
	QueueFull Reason = iota + 1 // as many wait as may
	TooLong                     // it would wait for longer than it may
	NoPlace                     // it has, and the node has had no place for an instance
	TooLate                     // its deadline has passed, or would have before it is served
	Crashing                    // the code's init crashes; the host has the last error
	Stopped                     // the function may have no instance
	Closed                      // the pool was closed
)

func (r Reason) String() string {
	names := [...]string{"granted", "queue full", "wait too long", "no place", "deadline too near", "init crashes", "stopped", "closed"}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}

// A Refusal says why an invocation gets no instance, and when to come back. The
// zero Refusal is none.
type Refusal struct {
	Reason     Reason
	RetryAfter time.Duration
}

// An Instance is a pool's part of an instance: embed it in the host's own.
type Instance struct {
	state state
	dead  bool // ended by itself, and is not to be used
	// The invocations that it serves, and those of them that are answered.
	serves, settling int
	open             int           // its place among those with room, + 1; 0: it is not there
	idleSince        time.Duration // if it is idle
	frozen           bool          // if it is idle
}

func (i *Instance) pooled() *Instance { return i }

// Idle reports whether the instance is there for whoever comes.
func (i *Instance) Idle() bool { return i.state == idle }

// Ends reports whether the instance serves no more than it does now.
func (i *Instance) Ends() bool { return i.dead }

// Serves is how many invocations the instance serves.
func (i *Instance) Serves() int { return i.serves }

type state uint8

const (
	ending state = iota // or no instance of a pool
	idle
	busy
)

// A Waiter is a pool's part of an invocation that waits: embed it in the host's
// own.
type Waiter struct {
	since, deadline time.Duration
	at              int // its place in line, counted from the first ever, + 1; 0: it is not in line
}

func (w *Waiter) waiting() *Waiter { return w }

// Stats is a pool as of now.
type Stats struct {
	Idle, Busy, Starting, Ending int // instances
	Waiting, Running             int // invocations
}
