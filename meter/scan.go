package meter

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"lambent"
)

// A Filter chooses records. Its zero value chooses all.
type Filter struct {
	Since    time.Time // ended at this time or later; zero: from the oldest
	Until    time.Time // ended before; zero: to the newest
	Project  string
	Function string
	Request  string // every attempt of an invocation
	Outcome  string
	Limit    int // at most so many; 0: all
}

func (f *Filter) match(u *lambent.Usage) bool {
	return (f.Since.IsZero() || !u.End.Before(f.Since)) && (f.Until.IsZero() || u.End.Before(f.Until)) &&
		(f.Project == "" || u.Project == f.Project) && (f.Function == "" || u.Function == f.Function) &&
		(f.Request == "" || u.ID == f.Request) && (f.Outcome == "" || u.Outcome == f.Outcome)
}

// needles tell most records that are not wanted from their lines alone: the
// encoding of a value is the same wherever it stands.
func (f *Filter) needles() (needles [][]byte) {
	for _, n := range []struct{ field, value string }{
		{`"id":`, f.Request}, {`"project":`, f.Project}, {`"function":`, f.Function}, {`"outcome":`, f.Outcome},
	} {
		if n.value != "" {
			needles = append(needles, appendString([]byte(n.field), n.value))
		}
	}
	return needles
}

// Scan yields records in the order that they were appended, which is about that
// of their ends. Those that were appended before the call are seen. Damaged
// records are passed over and logged. An error is the last thing that is yielded.
func (l *Ledger) Scan(ctx context.Context, f Filter) iter.Seq2[*lambent.Usage, error] {
	return l.records(ctx, f, false)
}

// Recent yields records as Scan does, the newest first, reading no further than
// the caller goes.
func (l *Ledger) Recent(ctx context.Context, f Filter) iter.Seq2[*lambent.Usage, error] {
	return l.records(ctx, f, true)
}

func (l *Ledger) records(ctx context.Context, f Filter, backward bool) iter.Seq2[*lambent.Usage, error] {
	f.Since, f.Until = f.Since.Truncate(time.Microsecond), f.Until.Truncate(time.Microsecond) // as records are
	return func(yield func(*lambent.Usage, error) bool) {
		needles := f.needles()
		n := 0
		err := l.lines(ctx, f, backward, func(seg segment, offset int64, line []byte) bool {
			for _, needle := range needles {
				if !bytes.Contains(line, needle) {
					return true
				}
			}
			u, err := decode(line)
			if err != nil {
				l.o.Logger.Error("passing over a damaged usage record", "segment", seg.name, "offset", offset, "error", err)
				return true
			}
			if !f.match(u) {
				return true
			}
			n++
			return yield(u, nil) && n != f.Limit
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// errStop ends a walk over lines without being a failure.
var errStop = errors.New("stop")

// lines passes every line of the segments that the filter's times allow to each,
// without its newline, until it returns false.
func (l *Ledger) lines(ctx context.Context, f Filter, backward bool, each func(seg segment, offset int64, line []byte) bool) error {
	const op = "meter.Scan"
	segments := l.within(f)
	if backward {
		slices.Reverse(segments)
	}
	n := 0
	check := func(seg segment, offset int64, line []byte) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return lambent.Errorf(lambent.Canceled, op, "given up before it was done: %w", ctx.Err())
		}
		if len(line) > 0 && !each(seg, offset, line) {
			return errStop
		}
		return nil
	}
	for _, seg := range segments {
		file, err := os.Open(l.path(seg))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was over the retention
		}
		if err != nil {
			return explain(op, l.o.Dir, err)
		}
		if backward {
			err = linesBackward(file, seg, check)
		} else {
			err = linesForward(file, seg, check)
		}
		_ = file.Close() // nothing was written
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return explain(op, l.o.Dir, err)
		}
	}
	return nil
}

// within returns the segments that can have records of the filter's time, as they
// are now: each ends where the next begins. The slack is for what waited between
// its end and its append, and for a clock that was set.
func (l *Ledger) within(f Filter) []segment {
	const slack = time.Minute
	l.mu.Lock()
	segments := slices.Clone(l.segments)
	if n := len(segments); n > 0 {
		segments[n-1].size = l.size
	}
	l.mu.Unlock()
	for !f.Since.IsZero() && len(segments) > 1 && segments[1].begun().Add(slack).Before(f.Since) {
		segments = segments[1:]
	}
	for n := len(segments); !f.Until.IsZero() && n > 0 && segments[n-1].begun().Add(-slack).After(f.Until); n-- {
		segments = segments[:n-1]
	}
	return segments
}

const block = 256 << 10 // bytes read at a time; a longer line is damage

func linesForward(file io.Reader, seg segment, each func(segment, int64, []byte) error) error {
	r := bufio.NewReaderSize(io.LimitReader(file, seg.size), block)
	for offset := int64(0); ; {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil // an unfinished line is not a record
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if err := each(seg, offset, bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return err
		}
		offset += int64(len(line))
	}
}

func linesBackward(file io.ReaderAt, seg segment, each func(segment, int64, []byte) error) error {
	buf := make([]byte, block)
	end := seg.size // of what has not been passed on
	for end > 0 {
		n := min(end, block)
		if _, err := file.ReadAt(buf[:n], end-n); err != nil {
			return err
		}
		b := buf[:n]
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			b = b[:i+1]
		}
		// Whatever precedes the first newline is the end of a line that begins in the
		// block before, unless it is the file that begins here.
		for len(b) > 0 {
			i := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
			if i == 0 && end > n && len(b) < block {
				break
			}
			if err := each(seg, end-n+int64(i), bytes.TrimSuffix(b[i:], []byte("\n"))); err != nil {
				return err
			}
			b = b[:i]
		}
		end = end - n + int64(len(b))
	}
	return nil
}
