package lambda

import "time"

// An instance that serves several invocations at a time holds as many requests for
// the next one, each on a connection of its own. AWS's clients open as many as
// AWS_LAMBDA_MAX_CONCURRENCY says. Our agents open one, a lane, and another
// whenever a byte comes down descriptor 3, which is used for nothing else then: a
// lane may cost a process, and most instances need few of what they may have.

// anotherLane asks an agent for one more connection.
const anotherLane = "\n"

// openLanes opens the Runtime API for an agent that is to serve several invocations
// at a time. Programs that bring their own client have it already.
func (in *instance) openLanes() error {
	if in.sandbox.Agent() == nil || in.unit.Revision.Config.Concurrency <= 1 {
		return nil
	}
	in.wide, in.lanes = true, 1
	return in.openAPI()
}

// widenLocked counts one lane more if there are more invocations than lanes, and
// reports whether it has. A lane that has answered and not asked again yet counts:
// it is about to.
func (in *instance) widenLocked() bool {
	if !in.wide || in.lanes >= in.unit.Revision.Config.Concurrency || in.short+len(in.calls) <= in.lanes {
		return false
	}
	in.lanes++
	return true
}

// widen asks for the lane. An agent that does not hear it has ended, or is about to.
func (in *instance) widen() { _, _ = in.sandbox.Agent().Write([]byte(anotherLane)) }

// hearLanes waits until what an agent that has ended said last has been read on each
// of its lanes, as Init does for descriptor 3.
func (in *instance) hearLanes() {
	in.mu.Lock()
	if !in.wide || len(in.conns) == 0 {
		in.mu.Unlock()
		return
	}
	left := make(chan struct{})
	in.left = left
	in.mu.Unlock()
	select {
	case <-left:
	case <-time.After(lastWords):
	}
}
