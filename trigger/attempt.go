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

// attempt runs an item once, and says what becomes of it.
func (b *Broker) attempt(l *lane, w *store.Work) {
	ran := false
	defer func() { b.ended(l, ran) }()
	function := functionOf(w.Lane)
	policy, err := b.cfg.Async(function)
	if err != nil {
		b.unmade(l, w, err)
		return
	}
	policy = policy.WithDefaults()
	if age := time.Since(w.Added); age > policy.MaxAge {
		b.kill(w, fmt.Sprintf("it is %v old, over the limit of %v: %s", age.Round(time.Millisecond), policy.MaxAge, cmp.Or(w.Note, b.refusal(l), "it never began")))
		return
	}
	it, err := w.Load(b.ctx)
	if err != nil {
		b.unmade(l, w, err)
		return
	}
	inv, err := decode(it)
	if err != nil {
		b.kill(w, err.Error())
		return
	}
	// Stop takes away what waits, and leaves what runs.
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.ctx))
	defer cancel()
	wait := context.AfterFunc(b.ctx, cancel)
	defer wait()
	inv.Started = sync.OnceFunc(func() {
		wait()
		ran = true
		b.started(l)
	})
	var out outcome
	ending := func() bool { return b.ctx.Err() != nil } // a server that ends may have cut it off
	switch err := b.cfg.Invoker.Invoke(ctx, inv, &out); {
	case err != nil && (!ran || ending()):
		b.unmade(l, w, err)
	case err != nil && passes(err): // the code ran, and what it did is not to be repeated at once
		b.again(w, policy, err.Error())
	case err != nil:
		b.kill(w, err.Error())
	case out.fault == nil:
		b.said(w.Done())
	case out.fault.Kind != lambent.FaultHandler && ending():
		b.refused(l, w, out.fault)
	default:
		b.again(w, policy, out.fault.Error())
	}
}

// unmade is the end of an attempt that the platform did not make.
func (b *Broker) unmade(l *lane, w *store.Work, err error) {
	if passes(err) {
		b.refused(l, w, err)
		return
	}
	b.kill(w, err.Error())
}

// again is the end of an attempt that failed.
func (b *Broker) again(w *store.Work, policy lambent.Async, note string) {
	if w.Attempt >= policy.Attempts {
		b.kill(w, note)
		return
	}
	wait := policy.Wait(w.Attempt)
	wait += time.Duration(rand.Int64N(int64(wait)/5 + 1)) // what failed together does not come again together
	b.said(w.Retry(time.Now().Add(wait), w.Attempt+1, note))
}

// kill has an item be a dead letter.
func (b *Broker) kill(w *store.Work, note string) { b.said(w.Kill(note)) }

// said looks at what the queue answers to what becomes of an item. It only refuses when
// it is closed: the item runs again then.
func (b *Broker) said(err error) {
	if err != nil && b.ctx.Err() == nil {
		b.cfg.Logger.Error("what became of an asynchronous invocation was not kept: it will run again", "error", err)
	}
}

// An outcome is the Reply that nobody waits for.
type outcome struct{ fault *lambent.Fault }

// Begin implements lambent.Reply.
func (o *outcome) Begin(int, map[string][]string) error { return nil }

// Write implements lambent.Reply.
func (o *outcome) Write(b []byte) (int, error) { return len(b), nil }

// End implements lambent.Reply.
func (o *outcome) End(r lambent.Result) { o.fault = r.Fault }
