package logs

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"regexp"
	"slices"
	"time"

	"lambent"
)

// A Filter chooses entries. Its zero value chooses all.
type Filter struct {
	Since   time.Time // not before; zero: from the oldest
	Until   time.Time // before; zero: to the newest
	Request string
	Grep    *regexp.Regexp // finds a match in the text
	Limit   int            // at most so many; 0: all
	Tail    bool           // the last Limit instead of the first
}

// match reports whether an entry is wanted. A mark for dropped lines always is:
// they might have been.
func (f *Filter) match(e *Entry) bool {
	if !f.Since.IsZero() && e.Time.Before(f.Since.Truncate(time.Microsecond)) || !f.Until.IsZero() && !e.Time.Before(f.Until) {
		return false
	}
	if e.Dropped > 0 {
		return true
	}
	return (f.Request == "" || e.Request == f.Request) && (f.Grep == nil || f.Grep.MatchString(e.Text))
}

// Query returns entries in the order that they came, which is that of time but
// for a clock that was set back. Lines that came before the call are seen. An
// error is the last thing that is yielded.
func (s *Logs) Query(ctx context.Context, name lambent.Name, f Filter) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := name.Validate(); err != nil {
			yield(Entry{}, err)
			return
		}
		l := s.Function(name)
		past, err := l.past(nil)
		if err != nil {
			yield(Entry{}, explain("logs.Query", l.disk.dir, err))
			return
		}
		past.query(ctx, f, yield)
	}
}

// A snapshot is what is in files at one moment.
type snapshot struct {
	dir      string
	segments []segment
}

// past writes what is buffered and returns everything up to now. A follower that
// is given starts right after it.
func (l *Log) past(f *follower) (snapshot, error) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	l.flushLocked(f)
	if err := l.disk.list(); err != nil {
		return snapshot{}, err
	}
	return snapshot{l.disk.dir, slices.Clone(l.disk.segments)}, nil
}

// query yields what the filter chooses, and reports whether more is wanted.
func (p snapshot) query(ctx context.Context, f Filter, yield func(Entry, error) bool) bool {
	segments := p.within(f)
	if f.Tail && f.Limit > 0 {
		tail, err := p.tail(ctx, segments, f)
		for _, e := range tail {
			if !yield(e, nil) {
				return false
			}
		}
		if err != nil {
			yield(Entry{}, err)
		}
		return err == nil
	}
	n, more := 0, true
	for _, seg := range segments {
		err := p.read(ctx, seg, f, func(e Entry) bool {
			n++
			more = yield(e, nil)
			return more && n != f.Limit
		})
		if err != nil {
			yield(Entry{}, err)
			return false
		}
		if !more || n == f.Limit && n > 0 {
			return more
		}
	}
	return true
}

// tail returns the last entries, looking at no more segments than it must.
func (p snapshot) tail(ctx context.Context, segments []segment, f Filter) ([]Entry, error) {
	var tail []Entry
	for _, seg := range slices.Backward(segments) {
		var last []Entry
		want := f.Limit - len(tail)
		err := p.read(ctx, seg, f, func(e Entry) bool {
			last = append(last, e)
			if len(last) >= 2*want {
				last = append(last[:0], last[len(last)-want:]...)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
		tail = append(last[max(0, len(last)-want):], tail...)
		if len(tail) == f.Limit {
			break
		}
	}
	return tail, nil
}

// within returns the segments that can have entries of the filter's time: each
// ends where the next begins. The slack is for a line that waited to be written,
// and for a clock that was set.
func (p snapshot) within(f Filter) []segment {
	const slack = time.Minute
	segments := p.segments
	for !f.Since.IsZero() && len(segments) > 1 && segments[1].begun().Add(slack).Before(f.Since) {
		segments = segments[1:]
	}
	for n := len(segments); !f.Until.IsZero() && n > 0 && segments[n-1].begun().Add(-slack).After(f.Until); n-- {
		segments = segments[:n-1]
	}
	return segments
}

// read passes the entries of a segment that the filter chooses to each, until it
// returns false. What is not an entry, as a line torn by a crash may not be, is
// passed over.
func (p snapshot) read(ctx context.Context, seg segment, f Filter, each func(Entry) bool) error {
	const op = "logs.Query"
	d := disk{dir: p.dir}
	file, err := os.Open(d.path(seg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was the oldest, and had to go
	}
	if err != nil {
		return explain(op, p.dir, err)
	}
	defer file.Close()
	since := ""
	if !f.Since.IsZero() {
		since = f.Since.UTC().Format(timeLayout)
	}
	lines := bufio.NewScanner(io.LimitReader(file, seg.size))
	lines.Buffer(make([]byte, 0, 64<<10), maxBuffer+1)
	for n := 0; lines.Scan(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return lambent.Errorf(lambent.Canceled, op, "given up before it was done: %w", ctx.Err())
		}
		line := lines.Bytes()
		if len(line) < len(since) || string(line[:len(since)]) < since { // times of one length sort as text
			continue
		}
		if e, ok := parse(line); ok && f.match(&e) && !each(e) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return explain(op, p.dir, err)
	}
	return nil
}
