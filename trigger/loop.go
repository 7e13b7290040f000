package trigger

import (
	"context"
	"fmt"
	"slices"

	"lambent"
)

// maxHops is how many functions may lead to one another before that is taken for a loop,
// as on AWS.
const maxHops = 16

// inALoop says what is taken for one.
var inALoop = fmt.Sprintf("%d functions have led to one another by now, which is taken for a loop", maxHops)

// redriven is the note of a dead letter that somebody has had run again.
const redriven = "it was redriven, and has not begun"

// cut is the end of a loop: a dead letter, and a line in the function's log.
func (p *part) cut() {
	note := inALoop + ": this one does not run, unless it is redriven"
	p.b.sayLoop(p.inv, note)
	p.kill(note)
}

func (b *Broker) sayLoop(inv *lambent.Invocation, note string) {
	b.cfg.Line(inv.Target, inv.ID, "LOOP RequestId: "+inv.ID+" "+note)
}

// refuseLoop is the end of a loop where the invocation before this one waits for it, as all
// of those may that have led to it, each in an instance.
func (b *Broker) refuseLoop(inv *lambent.Invocation) error {
	if inv.Hops < maxHops {
		return nil
	}
	if _, err := b.cfg.Async(inv.Target); err != nil { // a function that is not there has no log
		return err
	}
	note := inALoop + ": this one does not run"
	b.sayLoop(inv, note)
	err := lambent.Errorf(lambent.Invalid, "trigger.Invoke", "%s", note)
	err.Reason = lambent.ReasonLoop
	return err
}

// cutLoops has events that a loop has led to be dead letters, as those that are published
// become, and returns the others.
func (w *watch) cutLoops(ctx context.Context, events []lambent.Event) ([]lambent.Event, error) {
	loops := func(e lambent.Event) bool { return e.Hops >= maxHops }
	if !slices.ContainsFunc(events, loops) {
		return events, nil
	}
	adding := &adder{b: w.b, ctx: ctx}
	for i := range events {
		if !loops(events[i]) {
			continue
		}
		it, err := eventItem(&w.status.Trigger, &events[i], events[i].ID)
		if err != nil {
			return nil, err
		}
		it.Lane = laneOf(w.status.Target) // in no order
		adding.add(it)
	}
	adding.flush()
	return slices.DeleteFunc(slices.Clone(events), loops), adding.err
}
