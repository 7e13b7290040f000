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
	mu     sync.Mutex // guards what follows
	acked  map[ID]bool
	ran    map[ID]int
	have   map[ID]bool // what the server said last that it has
	first  map[int]ID  // of each worker's messages that are in order: the last that came for the first time
	orders []string
}

// Read takes in a line as [Line] writes them. It reports false of any other.
func (d *Diary) Read(line string) bool {
	what, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	f := Fact(what)
	if f != Acknowledged && f != Ran && f != Has {
		return false
	}
	id, ok := ParseID(rest)
	if ok {
		d.Know(f, id)
	}
	return ok
}

// Know takes in a fact.
func (d *Diary) Know(f Fact, id ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch f {
	case Acknowledged:
		put(&d.acked, id, true)
	case Has:
		put(&d.have, id, true)
	case Ran:
		put(&d.ran, id, d.ran[id]+1)
		if id.Kind != ordered || d.ran[id] > 1 {
			break
		}
		// What comes again has been there before: order is of when each came first.
		if last, ok := d.first[id.Worker]; ok && !last.before(id) {
			d.orders = append(d.orders, fmt.Sprintf("%v came after %v", id, last))
		}
		put(&d.first, id.Worker, id)
	}
}

// Waiting counts what was acknowledged and has not run.
func (d *Diary) Waiting() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.acked {
		if id.Kind.runs() && d.ran[id] == 0 {
			n++
		}
	}
	return n
}

// Lost returns what was acknowledged and is not there, and what came in another order than
// it was sent.
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
		case id.Kind.runs() && d.ran[id] == 0:
			lost = append(lost, fmt.Sprintf("%v did not run", id))
		case id.Kind == object && !d.have[id]:
			lost = append(lost, fmt.Sprintf("%v is not there", id))
		case id.Kind == deploy && (deployed[id.Worker].Kind == "" || deployed[id.Worker].before(id)):
			lost = append(lost, fmt.Sprintf("%v was deployed, and there is %v", id, deployed[id.Worker]))
		}
	}
	slices.Sort(lost)
	return append(lost, d.orders...)
}

// Unseen returns the kinds of which nothing was acknowledged.
func (d *Diary) Unseen() (kinds []Kind) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, kind := range []Kind{call, event, message, ordered, object, deploy} {
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

// String counts what was acknowledged, by its kind, and what ran more than once.
func (d *Diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	kinds := map[Kind]int{}
	for id := range d.acked {
		kinds[id.Kind]++
	}
	var words []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		words = append(words, fmt.Sprintf("%d %ss", kinds[kind], kind))
	}
	again := 0
	for _, n := range d.ran {
		again += n - 1
	}
	return fmt.Sprintf("acknowledged: %s; ran: %d, %d of them again", strings.Join(words, ", "), len(d.ran)+again, again)
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
