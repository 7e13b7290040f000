package store

import (
	"cmp"
	"container/heap"
	"strings"
	"time"
	"unique"
)

// The index: what is in the log, in memory. All of it is guarded by Queue.mu.

// A state is where an item is in its life. In the log a delayed or running one
// is waiting: that it is not due yet its time says, and a run ends with the
// process.
type state uint8

const (
	waiting  state = iota // due
	delayed               // until item.since
	running               // taken
	dead                  // given up, and kept
	finished              // gone, but for its key
	states
)

// An item is one that is accepted and not finished. There may be millions: its
// content, its id included, is in the log.
type item struct {
	key        key
	lane       *lane
	prev, next *item // in its lane's list of due or of dead ones
	note       unique.Handle[string]
	since      int64  // ms: from when it is due, or since when dead
	added      int64  // ms
	number     uint64 // in the order of acceptance
	ref               // where its content is
	off, size  uint32 // in the frame's body
	attempt    uint32
	takes      uint32 // how often it was taken or given up: an older handle is stale
	state      state
}

var noNote = unique.Make("")

// compare is the order of a lane: of coming due, then of acceptance.
func (it *item) compare(other *item) int {
	return cmp.Or(cmp.Compare(it.since, other.since), cmp.Compare(it.number, other.number))
}

// A lane is the queue of one function, or of one of its user's queues.
type lane struct {
	name      string
	owner     *owner // nil: it has none
	due, dead list
	coming    int // being written
	n         [states]int
	bytes     int64 // of its items, dead ones too
	deadBytes int64
	signalled bool // it is in Queue.signals
	told      bool // that dead items of it are forgotten

	frame uint64 // the newest one being made that names it,
	place int    // among the others
}

// An owner is who has lanes: a project. It is forgotten with the last of them.
type owner struct {
	name   string
	lanes  int
	items  int // of its lanes, dead ones too
	coming int // being written
	bytes  int64
}

func (l *lane) held() int { return l.coming + l.n[waiting] + l.n[delayed] + l.n[running] }

// laneOf returns a lane, making it. One that holds nothing is forgotten by drop.
func (q *Queue) laneOf(name string) *lane {
	l := q.lanes[name]
	if l == nil {
		l = &lane{name: name}
		if who, _, ok := strings.Cut(name, "/"); ok {
			if q.owners[who] == nil {
				q.owners[who] = &owner{name: who}
			}
			l.owner = q.owners[who]
			l.owner.lanes++
		}
		q.lanes[name] = l
	}
	return l
}

// keep counts what is kept in a lane.
func (l *lane) keep(items int, bytes int64) {
	l.bytes += bytes
	if l.owner != nil {
		l.owner.items += items
		l.owner.bytes += bytes
	}
}

// expect counts items that are being written.
func (l *lane) expect(items int) {
	l.coming += items
	if l.owner != nil {
		l.owner.coming += items
	}
}

func (q *Queue) drop(l *lane) {
	if l.held() == 0 && l.n[dead] == 0 && q.lanes[l.name] == l {
		delete(q.lanes, l.name)
		if l.owner != nil {
			if l.owner.lanes--; l.owner.lanes == 0 {
				delete(q.owners, l.owner.name)
			}
		}
	}
}

// signal has Next return the lane.
func (q *Queue) signal(l *lane) {
	if l.signalled || l.due.head == nil {
		return
	}
	l.signalled = true
	q.signals = append(q.signals, l)
	poke(q.signalled)
}

// poke wakes whoever waits on a channel of capacity one, now or next time.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// count changes an item's state, and what is counted of it.
func (q *Queue) count(it *item, to state) {
	it.lane.n[it.state]--
	q.n[it.state]--
	if it.state == dead {
		it.lane.deadBytes -= int64(it.size)
	}
	if to == dead {
		it.lane.deadBytes += int64(it.size)
	}
	it.state = to
	if to != finished {
		it.lane.n[to]++
		q.n[to]++
	}
}

// insert makes an item known that lies in the log.
func (q *Queue) insert(it *item) {
	q.items[it.key] = it
	q.live += int64(it.size)
	it.lane.keep(1, int64(it.size))
	it.lane.n[it.state]++
	q.n[it.state]++
	q.occupy(it)
}

// finish forgets an item, and remembers its key.
func (q *Queue) finish(it *item) {
	delete(q.items, it.key)
	q.recent[it.key] = struct{}{}
	q.live -= int64(it.size)
	it.lane.keep(-1, -int64(it.size))
	q.count(it, finished)
	q.vacate(it)
	q.drop(it.lane)
}

// occupy takes the place in its frame for an item, vacate gives it up.
func (q *Queue) occupy(it *item) {
	f := q.frame(it.frame)
	f.items[it.slot] = it
	f.live++
}

func (q *Queue) vacate(it *item) {
	f := q.frame(it.frame)
	f.items[it.slot] = nil
	if f.live--; f.live == 0 {
		f.items, f.body = nil, nil
	}
}

// now is the time in ms, which does not fall below that of what is in the log: a
// clock that was set back delays nothing that is due.
func (q *Queue) now() int64 {
	clock := time.Now().UnixMilli()
	if q.at > clock && q.at-clock < setBack {
		return q.at
	}
	return clock
}

// setBack is by how many ms a clock may be set back without that showing in the log: by
// more, it was ahead before.
const setBack = 60_000

// wait puts an item, in no list, to those that are due, or that will be.
func (q *Queue) wait(it *item) {
	if it.since <= q.now() {
		q.count(it, waiting)
		it.lane.due.pushBack(it)
		q.signal(it.lane)
		return
	}
	q.count(it, delayed)
	heap.Push(&q.delays, it)
	if q.delays[0] == it {
		q.setAlarm()
	}
}

// setAlarm has ring called when the first delay ends. Clocks may be set
// meanwhile: it looks again each minute.
func (q *Queue) setAlarm() {
	if len(q.delays) > 0 && !q.closing {
		q.alarm.Reset(min(time.Until(time.UnixMilli(q.delays[0].since)), time.Minute))
	}
}

// ringBatch bounds for how long the end of many delays at once keeps the lock.
const ringBatch = 256

// ring moves items that have come due to their lanes.
func (q *Queue) ring() {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	for range ringBatch {
		if len(q.delays) == 0 || q.delays[0].since > now {
			break
		}
		q.wait(heap.Pop(&q.delays).(*item))
	}
	q.setAlarm()
}

// delays is a heap of the items whose time has not come.
type delays []*item

func (d delays) Len() int           { return len(d) }
func (d delays) Less(i, j int) bool { return d[i].compare(d[j]) < 0 }
func (d delays) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *delays) Push(x any)        { *d = append(*d, x.(*item)) }
func (d *delays) Pop() any {
	last := len(*d) - 1
	it := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return it
}

// A list links items by themselves. An item is in one list at most.
type list struct{ head, tail *item }

func (l *list) pushBack(it *item) {
	it.prev, it.next = l.tail, nil
	if l.tail == nil {
		l.head = it
	} else {
		l.tail.next = it
	}
	l.tail = it
}

func (l *list) pushFront(it *item) {
	it.prev, it.next = nil, l.head
	if l.head == nil {
		l.tail = it
	} else {
		l.head.prev = it
	}
	l.head = it
}

func (l *list) remove(it *item) {
	if it.prev == nil {
		l.head = it.next
	} else {
		it.prev.next = it.next
	}
	if it.next == nil {
		l.tail = it.prev
	} else {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
}
