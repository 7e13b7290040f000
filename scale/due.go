package scale

import "time"

// Next returns when the pool wants [Pool.Due] to be called, or Never. It may be
// too early, never too late: a pool that is always busy moves it at most once in
// a while, and not with each invocation.
func (p *Pool[I, W]) Next() time.Duration { return p.due }

// by has the pool asked again at t at the latest.
func (p *Pool[I, W]) by(t time.Duration) { p.due = min(p.due, t) }

// Due does what time brings: it ends and freezes idle instances, starts some
// ahead, and starts more for who waits for longer than was predicted. It returns
// [Pool.Next].
func (p *Pool[I, W]) Due(now time.Duration) time.Duration {
	p.due = Never
	switch {
	case now >= p.forgive:
		p.crashes = 0
	case p.crashes > 0:
		p.by(p.forgive)
	}
	p.provide(now)
	p.trim(now)
	p.ahead(now)
	p.freeze(now)
	return p.due
}

// trim ends the idle instances that are not worth their memory any more.
func (p *Pool[I, W]) trim(now time.Duration) {
	for len(p.idle) > 0 {
		want, until := p.want(p.live, now)
		if want {
			p.by(until)
			return
		}
		i, _ := p.Evict()
		p.host.End(i)
	}
}

// retryAhead is when a start ahead is tried again for which there was no place.
const retryAhead = 5 * time.Second

// ahead starts instances that somebody is likely to want soon.
func (p *Pool[I, W]) ahead(now time.Duration) {
	for p.line.n == 0 && p.live < p.cfg.Max {
		want, until := p.want(p.live+1, now)
		if !want {
			p.by(until)
			return
		}
		if !p.start(now, true) {
			p.by(now + retryAhead)
			return
		}
	}
}

// freeze freezes what has been idle for long enough, the hottest first: below one
// that is frozen all are.
func (p *Pool[I, W]) freeze(now time.Duration) {
	if p.cfg.FreezeAfter == 0 {
		return
	}
	for n := len(p.idle) - 1; n >= 0; n-- {
		s := p.idle[n].pooled()
		if s.frozen {
			return
		}
		if at := s.idleSince + p.cfg.FreezeAfter; now < at {
			p.by(at)
			continue
		}
		s.frozen = true
		p.host.Freeze(p.idle[n])
	}
}

// want says whether there is to be an instance of a level now, and until when
// that holds. One that is wanted within the time of a start is wanted now.
func (p *Pool[I, W]) want(level int, now time.Duration) (want bool, until time.Duration) {
	switch {
	case p.retired || level > p.cfg.Max:
		return false, Never
	case level <= p.cfg.Min:
		return true, Never
	case level > len(p.fell) || p.fell[level-1] < 0:
		return false, Never
	}
	fell, cold := p.fell[level-1], time.Duration(p.cold)
	want, until = p.cfg.Policy.Want(level, now-fell, Cost{Cold: cold, GB: p.standing.GB})
	switch {
	case until == Never:
		return want, Never
	case want:
		return true, fell + until
	case fell+until-cold <= now:
		return true, fell + until
	}
	return false, fell + until - cold
}

// see makes room for what is known of a level.
func (p *Pool[I, W]) see(level int) {
	for len(p.fell) < level {
		p.fell = append(p.fell, -1)
	}
}

// rise tells that one more instance is in use, or starts for somebody.
func (p *Pool[I, W]) rise(now time.Duration) {
	p.level++
	p.see(p.level)
	if fell := p.fell[p.level-1]; fell >= 0 {
		p.cfg.Policy.Used(p.level, now-fell)
	}
}

// fall tells that one fewer is.
func (p *Pool[I, W]) fall(now time.Duration) {
	p.fell[p.level-1] = now
	p.level--
}
