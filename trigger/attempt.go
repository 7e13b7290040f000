package trigger

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"lambent"
	"lambent/store"
)

// An attempt is one run of an item.
type attempt struct {
	b      *Broker
	l      *lane
	w      *store.Work
	policy lambent.Async
	inv    *lambent.Invocation
	ran    bool // it had an instance
	out    outcome
}

// attempt runs an item once, and says what becomes of it.
func (b *Broker) attempt(l *lane, w *store.Work) {
	a := &attempt{b: b, l: l, w: w}
	defer func() { b.ended(l, a.ran) }()
	policy, err := b.cfg.Async(functionOf(w.Lane))
	if err != nil {
		a.unmade(err)
		return
	}
	a.policy = policy.WithDefaults()
	it, err := w.Load(b.ctx)
	if err != nil {
		a.unmade(err)
		return
	}
	if a.inv, err = decode(it); err != nil {
		a.kill(err.Error())
		return
	}
	if age := time.Since(w.Added); age > a.policy.MaxAge {
		a.dies(aged, fmt.Sprintf("it is %v old, over the limit of %v: %s", age.Round(time.Millisecond), a.policy.MaxAge, cmp.Or(w.Note, b.refusal(l), "it never began")))
		return
	}
	a.run()
}

func (a *attempt) run() {
	// Stop takes away what waits, and leaves what runs.
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.b.ctx))
	defer cancel()
	unhook := context.AfterFunc(a.b.ctx, cancel)
	defer unhook()
	a.inv.Started = sync.OnceFunc(func() {
		unhook()
		a.ran = true
		a.b.started(a.l)
	})
	a.out.wants = a.policy.OnSuccess != ""
	err := a.b.cfg.Invoker.Invoke(ctx, a.inv, &a.out)
	ending := a.b.ctx.Err() != nil // a server that ends may have cut it off
	switch f := a.out.result.Fault; {
	case err != nil && (!a.ran || ending):
		a.unmade(err)
	case err != nil && passes(err): // the code ran, and what it did is not to be repeated at once
		a.again(err.Error())
	case err != nil:
		a.dies(exhausted, err.Error())
	case f == nil:
		a.succeeds()
	case f.Kind != lambent.FaultHandler && ending:
		a.b.refused(a.l, a.w, f)
	default:
		a.again(f.Error())
	}
}

// unmade is the end of an attempt that the platform did not make.
func (a *attempt) unmade(err error) {
	if passes(err) {
		a.b.refused(a.l, a.w, err)
		return
	}
	if a.inv == nil {
		a.kill(err.Error())
		return
	}
	a.dies(exhausted, err.Error())
}

// again is the end of an attempt that failed.
func (a *attempt) again(note string) {
	if a.w.Attempt >= a.policy.Attempts {
		a.dies(exhausted, note)
		return
	}
	wait := a.policy.Wait(a.w.Attempt)
	wait += time.Duration(rand.Int64N(int64(wait)/5 + 1)) // what failed together does not come again together
	a.b.said(a.w.Retry(time.Now().Add(wait), a.w.Attempt+1, note))
}

// kill has an item be a dead letter.
func (a *attempt) kill(note string) { a.b.said(a.w.Kill(note)) }

// said looks at what the queue answers to what becomes of an item. It only refuses when
// it is closed: the item runs again then.
func (b *Broker) said(err error) {
	if err != nil && b.ctx.Err() == nil {
		b.cfg.Logger.Error("what became of an asynchronous invocation was not kept: it will run again", "error", err)
	}
}

// maxOutcome is how much of an answer a destination is told.
const maxOutcome = 256 << 10

// An outcome is the Reply that nobody waits for.
type outcome struct {
	wants  bool   // the answer, for a destination
	body   []byte // up to maxOutcome and one more
	result lambent.Result
}

// Begin implements lambent.Reply.
func (o *outcome) Begin(int, map[string][]string) error { return nil }

// Write implements lambent.Reply.
func (o *outcome) Write(b []byte) (int, error) {
	if o.wants {
		o.body = append(o.body, b[:min(len(b), maxOutcome+1-len(o.body))]...)
	}
	return len(b), nil
}

// End implements lambent.Reply.
func (o *outcome) End(r lambent.Result) { o.result = r }
