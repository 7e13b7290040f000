package dispatch

// An instance that has been idle for a while is frozen: nothing of the code runs
// between invocations, as on Lambda, and unpaid. It is thawed on the way to the
// next one. Between calls that follow one another closely nothing is done: the
// pool's timer looks at all of them, at most once in that while.

// wake makes an instance that has left the stack ready to run. If that fails, its
// sandbox is destroyed, which the invocation finds.
func (in *instance) wake() {
	in.freezeMu.Lock()
	defer in.freezeMu.Unlock()
	if !in.frozen {
		return
	}
	in.frozen = false
	if err := in.freezer.Thaw(); err != nil {
		in.p.d.cfg.Logger.Error("a sandbox cannot be thawed", "sandbox", in.sandbox.ID(), "error", err)
	}
}

// rests reports whether nothing in the instance can run.
func (in *instance) rests() bool {
	if !in.freezeMu.TryLock() { // about to, or no more
		return false
	}
	defer in.freezeMu.Unlock()
	return in.frozen
}

// freeze freezes an instance that is still idle.
func (in *instance) freeze() {
	in.freezeMu.Lock() // whoever takes it from here on waits, and wakes it
	defer in.freezeMu.Unlock()
	in.p.mu.Lock()
	idle := in.Idle()
	in.p.mu.Unlock()
	if in.freezer == nil || in.frozen || !idle {
		return
	}
	if err := in.freezer.Freeze(); err != nil { // its sandbox is destroyed
		select {
		case <-in.sandbox.Done(): // it ended by itself
		default: // a disk or a processor is busy
			in.p.d.cfg.Logger.Warn("an idle sandbox cannot be frozen, and ends", "sandbox", in.sandbox.ID(), "error", err)
		}
		return
	}
	in.frozen = true
}
