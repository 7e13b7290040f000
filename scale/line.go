package scale

// A line is a queue that one can leave: first in, first out. Who leaves has a gap
// behind, which is skipped.
type line[W waiter] struct {
	places []place[W]
	gone   int // places that were ever taken off the front
	n      int // without the gaps
}

type place[W waiter] struct {
	w     W
	taken bool
}

// push puts w at the end.
func (l *line[W]) push(w W) {
	if len(l.places) == cap(l.places) && l.n < len(l.places)/2 {
		l.close()
	}
	l.places = append(l.places, place[W]{w, true})
	w.waiting().at = l.gone + len(l.places)
	l.n++
}

// close removes the gaps.
func (l *line[W]) close() {
	kept := l.places[:0]
	for _, p := range l.places {
		if p.taken {
			kept = append(kept, p)
			p.w.waiting().at = l.gone + len(kept)
		}
	}
	clear(l.places[len(kept):])
	l.places = kept
}

// first returns the first in line; there must be one.
func (l *line[W]) first() W {
	for !l.places[0].taken {
		l.drop()
	}
	return l.places[0].w
}

// pop takes the first out of the line; there must be one.
func (l *line[W]) pop() W {
	w := l.first()
	l.drop()
	l.n--
	w.waiting().at = 0
	return w
}

func (l *line[W]) drop() {
	l.places[0] = place[W]{}
	l.places = l.places[1:]
	l.gone++
}

// remove takes w out of the line, and reports whether it was in it.
func (l *line[W]) remove(w W) bool {
	at := w.waiting().at
	if at == 0 {
		return false
	}
	w.waiting().at = 0
	l.places[at-1-l.gone] = place[W]{}
	l.n--
	return true
}
