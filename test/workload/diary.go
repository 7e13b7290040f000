package workload

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// A Diary is what is known for certain of a workload, whatever happened to its server
// meanwhile. Its methods may be called concurrently. The zero value is empty.
type Diary struct {
	mu    sync.Mutex // guards what follows
	acked map[ID]bool
	have  map[ID]bool
	ran   map[ID][]string // under which ids
	first map[ID]ID       // of a worker's that are in order: the last that came for the first time
	wrong []string        // what came and should not have come so
}

// Know takes in a fact.
func (d *Diary) Know(f Fact) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch f.What {
	case Acknowledged:
		put(&d.acked, f.ID, true)
	case Has:
		put(&d.have, f.ID, true)
	case Ran:
		before := d.ran[f.ID]
		put(&d.ran, f.ID, append(before, f.As))
		if f.ID.Kind.named() && len(before) > 0 && before[0] != f.As {
			d.wrong = append(d.wrong, fmt.Sprintf("%v came as %s and as %s", f.ID, before[0], f.As))
		}
		if !f.ID.Kind.inOrder() || len(before) > 0 {
			return
		}
		// What comes again has been there before: order is of when each came first.
		key := ID{Kind: f.ID.Kind, Worker: f.ID.Worker}
		if last, ok := d.first[key]; ok && !last.before(f.ID) {
			d.wrong = append(d.wrong, fmt.Sprintf("%v came after %v", f.ID, last))
		}
		put(&d.first, key, f.ID)
	}
}

// Waiting counts what was acknowledged and has not run.
func (d *Diary) Waiting() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.acked {
		if id.Kind.runs() && len(d.ran[id]) == 0 {
			n++
		}
	}
	return n
}

// Lost returns what was acknowledged and is not there, what came in another order than it
// was sent, and what came again as if it were another.
func (d *Diary) Lost() (lost []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	deployed := map[int]ID{}
	for id := range d.have {
		if id.Kind == deploy {
			deployed[id.Worker] = id
		}
	}
	for id := range d.acked {
		switch {
		case id.Kind.runs() && len(d.ran[id]) == 0:
			lost = append(lost, fmt.Sprintf("%v did not run", id))
		case id.Kind == object && !d.have[id]:
			lost = append(lost, fmt.Sprintf("%v is not there", id))
		case id.Kind == deploy && (deployed[id.Worker].Kind == "" || deployed[id.Worker].before(id)):
			lost = append(lost, fmt.Sprintf("%v was deployed, and there is %v", id, deployed[id.Worker]))
		}
	}
	slices.Sort(lost)
	return append(lost, d.wrong...)
}

// Unseen returns the kinds of which nothing was acknowledged, of all and more.
func (d *Diary) Unseen(more ...Kind) (kinds []Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, kind := range append(more, call, event, message, ordered, object, deploy) {
		seen := false
		for id := range d.acked {
			seen = seen || id.Kind == kind
		}
		if !seen {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// String counts, of each kind, what was acknowledged, what ran, and how often something of it
// ran again.
func (d *Diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	acked, ran, again := map[Kind]int{}, map[Kind]int{}, map[Kind]int{}
	for id := range d.acked {
		acked[id.Kind]++
	}
	for id, as := range d.ran {
		ran[id.Kind]++
		again[id.Kind] += len(as) - 1
	}
	var words []string
	for _, kind := range slices.Sorted(maps.Keys(acked)) {
		words = append(words, fmt.Sprintf("%s %d/%d/%d", kind, acked[kind], ran[kind], again[kind]))
	}
	return "acknowledged/ran/again: " + strings.Join(words, ", ")
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
