package logs

import (
	"context"
	"iter"
	"strconv"
	"time"

	"lambent"
)

// followBytes bounds the text that waits for a follower.
const followBytes = 1 << 20

// A follower is one reader of new lines. All of it is guarded by the mu of the
// log that it follows.
type follower struct {
	wake    chan struct{} // holds a token while there is something to take
	waiting []Entry
	bytes   int
	dropped int       // lines that came after those waiting and found no room
	last    time.Time // of the last dropped
	ended   bool      // no more will come
}

// offer gives the follower a line, or counts it as dropped. What follows a
// dropped line is dropped too until the follower has come, so that the count is
// in its place.
func (f *follower) offer(e Entry) {
	const overhead = 128 // of an entry beside its text
	if f.dropped > 0 || f.bytes+len(e.Text)+overhead > followBytes {
		f.dropped++
		f.last = e.Time
	} else {
		f.waiting = append(f.waiting, e)
		f.bytes += len(e.Text) + overhead
	}
	f.signal()
}

func (f *follower) end() {
	f.ended = true
	f.signal()
}

func (f *follower) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// take returns what waits.
func (l *Log) takeFor(f *follower) (entries []Entry, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries = f.waiting
	if f.dropped > 0 {
		entries = append(entries, Entry{Time: f.last, Dropped: f.dropped, Text: strconv.Itoa(f.dropped) + " lines dropped: the reader did not keep up"})
	}
	f.waiting, f.bytes, f.dropped = nil, 0, 0
	return entries, f.ended
}

// Follow yields entries as they come, until ctx is done, the log is deleted or
// the logs are closed, none of which is an error. With Since, or Tail and Limit,
// it begins with what is there; Limit counts only that. A follower that does not
// keep up with the function loses lines, and an entry in their place counts them;
// it never holds the function up.
func (s *Logs) Follow(ctx context.Context, name lambent.Name, filter Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := name.Validate(); err != nil {
			yield(Entry{}, err)
			return
		}
		l := s.Function(name)
		f := &follower{wake: make(chan struct{}, 1)}
		defer func() {
			l.mu.Lock()
			delete(l.followers, f)
			l.mu.Unlock()
		}()
		past, err := l.past(f)
		if err != nil {
			yield(Entry{}, explain("logs.Follow", l.disk.dir, err))
			return
		}
		if !filter.Since.IsZero() || filter.Tail && filter.Limit > 0 {
			if !past.query(ctx, filter, yield) {
				return
			}
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-f.wake:
			}
			entries, ended := l.takeFor(f)
			for _, e := range entries {
				if filter.match(&e) && !yield(e, nil) {
					return
				}
			}
			if ended {
				return
			}
		}
	}
}
