package trigger

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/store"
)

// An attempt is one run of an item, or, of an ordered lane, of the next few together.
type attempt struct {
	b      *Broker
	l      *lane
	policy lambent.Async
	parts  []*part
	ran    bool // it had an instance
	out    outcome
}

// A part is one item of an attempt.
type part struct {
	*attempt
	w     *store.Work
	inv   *lambent.Invocation // of it alone
	to    string              // the receiver that it is posted to, by its URL; empty: the function is invoked
	unfit string              // why it is never to run; empty: it is
}

// maxBatchBytes is how much data the events of an attempt have together: under what a
// function may be called with, as an event's form takes space, too.
const maxBatchBytes = 4 << 20

// attempt runs items once, and says what becomes of them.
func (b *Broker) attempt(l *lane, works []*store.Work) {
	a := &attempt{b: b, l: l}
	defer func() { b.ended(l, a.ran) }()
	if a.load(works) {
		a.run()
	}
}

// load reads what is to run together, and gives back the rest. It reports whether there
// is anything.
func (a *attempt) load(works []*store.Work) bool {
	policy, policyErr := webhookPolicy, error(nil)
	if a.l.name != webhookLane(functionOf(a.l.name)) {
		policy, policyErr = a.b.cfg.Async(functionOf(a.l.name))
	}
	a.policy = policy.WithDefaults()
	bytes := 0
	for i, w := range works {
		p, err := &part{attempt: a, w: w}, policyErr
		if err == nil {
			err = p.load()
		}
		if err != nil && passes(err) {
			giveBack(works[i:])
			a.refused(err)
			return false
		}
		if err != nil {
			p.kill(err.Error())
			continue
		}
		if p.unfit != "" {
			p.dies(exhausted, p.unfit)
			continue
		}
		if p.inv.Hops >= maxHops {
			p.cut()
			continue
		}
		if age := time.Since(w.Added); age > a.policy.MaxAge {
			p.dies(aged, fmt.Sprintf("it is %v old, over the limit of %v: %s", age.Round(time.Millisecond), a.policy.MaxAge, cmp.Or(w.Note, a.b.refusal(a.l), "it never began")))
			continue
		}
		for j := range p.inv.Events {
			bytes += len(p.inv.Events[j].Data)
		}
		if len(a.parts) > 0 && (w.Attempt > 1 || a.parts[0].w.Attempt > 1 || bytes > maxBatchBytes) { // what has failed is alone
			giveBack(works[i:])
			break
		}
		a.parts = append(a.parts, p)
	}
	return len(a.parts) > 0
}

// load reads the item.
func (p *part) load() error {
	it, err := p.w.Load(p.b.ctx)
	if err == nil {
		var m meta
		p.inv, m, err = decode(it)
		p.to, p.unfit = m.Webhook, m.Refused
	}
	if err == nil && p.inv.Hops >= maxHops && (p.w.Note == redriven || p.w.Attempt > 1) { // somebody wants it all the same
		p.inv.Hops = 0
	}
	return err
}

// giveBack has items wait again, the first in front. The queue may be closed, and then
// it is as if they had not been taken.
func giveBack(works []*store.Work) {
	for _, w := range slices.Backward(works) {
		_ = w.Release()
	}
}

// giveBack is for all parts from one on.
func (a *attempt) giveBack(from int) {
	for _, p := range slices.Backward(a.parts[from:]) {
		_ = p.w.Release()
	}
}

func (a *attempt) run() {
	if p := a.parts[0]; p.to != "" {
		p.post()
		return
	}
	// Stop takes away what waits, and leaves what runs.
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.b.ctx))
	defer cancel()
	unhook := context.AfterFunc(a.b.ctx, cancel)
	defer unhook()
	inv := a.together()
	inv.Started = sync.OnceFunc(func() {
		unhook()
		a.ran = true
		a.b.started(a.l)
	})
	a.out.wants = a.policy.OnSuccess != ""
	err := a.b.cfg.Invoker.Invoke(ctx, inv, &a.out)
	ending := a.b.ctx.Err() != nil // a server that ends may have cut it off
	switch f := a.out.result.Fault; {
	case err != nil && !passes(err):
		a.fails(err.Error(), false)
	case err != nil && (!a.ran || ending):
		a.refused(err)
	case err != nil: // the code ran, and what it did is not to be repeated at once
		a.fails(err.Error(), true)
	case f == nil:
		a.succeeds()
	case f.Kind != lambent.FaultHandler && ending:
		a.refused(f)
	default:
		a.fails(f.Error(), true)
	}
}

// together is the invocation of all parts.
func (a *attempt) together() *lambent.Invocation {
	inv := *a.parts[0].inv
	if len(a.parts) == 1 {
		return &inv
	}
	name := strings.Builder{}
	inv.Events = nil
	for _, p := range a.parts {
		name.WriteString(" " + p.inv.ID)
		inv.Events = append(inv.Events, p.inv.Events...)
		inv.Hops = max(inv.Hops, p.inv.Hops)
	}
	inv.ID = lambent.IDOf("batch" + name.String())
	return &inv
}

// refused is the end of an attempt that the platform did not make: nothing has become of
// its parts.
func (a *attempt) refused(err error) {
	a.giveBack(0)
	a.b.refused(a.l, err)
}

// fails is the end of an attempt that failed, whole. Which of several parts that was,
// fewer at a time will show.
func (a *attempt) fails(note string, again bool) {
	switch p := a.parts[0]; {
	case len(a.parts) > 1:
		a.giveBack(0)
		a.b.suspect(a.l, len(a.parts))
	case again:
		p.again(note)
	default:
		p.dies(exhausted, note)
	}
}

// succeeds is the end of an attempt that went well, but perhaps for some of its parts:
// from the first of these on nothing is taken as done.
func (a *attempt) succeeds() {
	failed := len(a.parts)
	for _, id := range a.out.result.FailedItems {
		i := slices.IndexFunc(a.parts, func(p *part) bool { return len(p.inv.Events) == 1 && p.inv.Events[0].ID == id })
		if i < 0 {
			a.fails(fmt.Sprintf("the function says that item %.80q has failed, which is not in its batch", id), true)
			return
		}
		failed = min(failed, i)
	}
	if failed < len(a.parts) {
		a.giveBack(failed + 1)
	}
	for _, p := range a.parts[:failed] {
		p.succeeds()
	}
	if failed < len(a.parts) {
		a.parts[failed].again("the function says that it has failed")
	}
}

// again is the end of a part that failed: it is tried again later.
func (p *part) again(note string) {
	if p.w.Attempt >= p.policy.Attempts {
		p.dies(exhausted, note)
		return
	}
	wait := p.policy.Wait(p.w.Attempt)
	wait += time.Duration(rand.Int64N(int64(wait)/5 + 1)) // what failed together does not come again together
	if !p.l.ordered {
		p.b.said(p.w.Retry(time.Now().Add(wait), p.w.Attempt+1, note))
		return
	}
	p.b.said(p.w.Repeat(p.w.Attempt+1, note))
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.b.rest(p.l, wait)
}

// refused gives back a part that has ended as the server does: it runs again.
func (p *part) refused(err error) {
	_ = p.w.Release()
	p.b.refused(p.l, err)
}

// kill has an item be a dead letter.
func (p *part) kill(note string) {
	p.b.passed(p.l)
	p.b.said(p.w.Kill(note))
}

// done has an item be gone.
func (p *part) done() {
	p.b.passed(p.l)
	p.b.said(p.w.Done())
}

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
