package dispatch

import (
	"sync/atomic"
	"time"

	"lambent"
)

// running counts the invocations of a project, from their arrival to their end. They
// are counted without a limit, too: one that is set is exact at once.
func (d *Dispatcher) running(project string) *atomic.Int64 {
	if n, ok := d.projects.Load(project); ok {
		return n.(*atomic.Int64)
	}
	n, _ := d.projects.LoadOrStore(project, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// enter counts one more invocation of the target's project, unless there are as many
// as may be. Who is refused is not counted for a moment: it would take the place of
// one that is not.
func (d *Dispatcher) enter(t lambent.Target) (*atomic.Int64, error) {
	name := t.Revision.Name.Project
	running := d.running(name)
	if t.Project == nil || t.Project.MaxConcurrency == 0 {
		running.Add(1)
		return running, nil
	}
	most := int64(t.Project.MaxConcurrency)
	for {
		n := running.Load()
		if n >= most {
			e := lambent.Errorf(lambent.Throttled, "dispatch", "project %q has %d invocations under way, and may have %d at a time", name, n, most)
			e.Reason, e.RetryAfter = lambent.ReasonConcurrency, time.Second
			return nil, e.WithHint("lambent project set %s --max-concurrency N", name)
		}
		if running.CompareAndSwap(n, n+1) {
			return running, nil
		}
	}
}
