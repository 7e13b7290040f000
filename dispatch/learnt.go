package dispatch

import (
	"maps"
	"sync"

	"lambent"
)

// What a pool learns of when a function is called outlives it: a deploy makes another
// pool, a function that is not called for long has none, and a server is restarted.
// It is a function's, whatever revision; of several pools of one function the newest
// is heard.
type learnt struct {
	mu   sync.Mutex        // guards what follows; no pool's lock is taken under it
	kept map[string][]byte // by function, of those without a pool
	from map[string]*pool  // the newest of each function's
}

// Learnt returns what is known of when functions are called, for a Config to begin
// with. What has no use any more is not in it.
func (d *Dispatcher) Learnt() map[string][]byte {
	l := &d.learnt
	l.mu.Lock()
	all := maps.Clone(l.kept)
	from := maps.Clone(l.from)
	l.mu.Unlock()
	if all == nil {
		all = map[string][]byte{}
	}
	for key, p := range from {
		p.mu.Lock()
		b := p.rememberLocked()
		p.mu.Unlock()
		if b != nil {
			all[key] = b
		}
	}
	return all
}

// rememberLocked is what the pool has learnt, or nil.
func (p *pool) rememberLocked() []byte {
	if !p.learns {
		return nil
	}
	b, err := p.habits.MarshalBinary()
	if err != nil {
		return nil
	}
	return b
}

// recall makes a new pool the one of its function that is heard, and gives it what
// is known. No pool's lock is held.
func (l *learnt) recall(p *pool) {
	key := functionKey(p.rev.Name)
	l.mu.Lock()
	before, known := l.from[key], l.kept[key]
	if l.from == nil {
		l.from = map[string]*pool{}
	}
	l.from[key] = p
	delete(l.kept, key)
	l.mu.Unlock()
	if before != nil {
		before.mu.Lock()
		known = before.rememberLocked()
		before.mu.Unlock()
	}
	p.mu.Lock()
	_ = p.habits.UnmarshalBinary(known) // what an earlier release has written may be no use any more
	p.mu.Unlock()
}

// leave keeps what a pool has learnt that goes, unless its function does, too. The
// pool's lock is held.
func (l *learnt) leave(p *pool) {
	b, key := p.rememberLocked(), functionKey(p.rev.Name)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.from[key] != p {
		return
	}
	delete(l.from, key)
	if b != nil && !p.gone {
		if l.kept == nil {
			l.kept = map[string][]byte{}
		}
		l.kept[key] = b
	}
}

// forget drops what is known of a function that is deleted. A pool that it still has
// is gone, and keeps nothing.
func (l *learnt) forget(n lambent.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kept, functionKey(n))
	delete(l.from, functionKey(n))
}
