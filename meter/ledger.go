// Package meter keeps the record of what was used, one for each attempt, and
// turns records into money. Records are raw facts, written once; prices are data
// ([PriceBook]), so that the same month can be priced under any book.
//
// What it guarantees: when [Ledger.Append] returns nil the record has been handed
// to the kernel by one write(2), so that a crash of the process cannot lose it;
// it is on disk within about a second, which is what a power cut may cost. When
// Append fails nothing of the record is left. A record is never changed. What a
// crash left of a record in the middle of its write is cut off when the ledger is
// opened, and nothing else ever is, but for whole segments that are over the
// retention.
//
// What it does not do: it does not look for a record that is appended twice ([Ledger.Check]
// finds those), and it has no index: a scan reads the segments that the filter's
// times allow.
//
// # On disk
//
// The ledger is segments named for the moment that they were begun, such as
// 20260102T030405.678901Z.jsonl; a new one begins with each UTC day, and at 64
// MB. A line is a record: a flat JSON object with the fields of [lambent.Usage]
// under their JSON names and, as its last field, "crc", the CRC-32C of the bytes
// of the line before the comma in front of it, as 8 hexadecimal digits.
package meter

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"lambent"
	"lambent/internal/atomicfile"
)

// Options say where a ledger lives and how much of it is kept.
type Options struct {
	Dir          string        // made if it is not there
	MaxAge       time.Duration // of a segment since its last record; 0: 400 days
	MaxBytes     int64         // of all segments; 0: 16 GB
	SegmentBytes int64         // 0: 64 MB
	Logger       *slog.Logger  // told of failures in the background, and of what is removed for MaxBytes; nil: nobody
}

const (
	syncEvery   = time.Second
	retainEvery = time.Hour
)

// A Ledger is open for appending and reading. Its methods may be called
// concurrently. One process at a time may have it open.
type Ledger struct {
	o    Options
	quit chan struct{}
	done chan struct{} // the keeper has ended

	syncing sync.Mutex // held by one Sync at a time; taken before mu

	mu       sync.Mutex // guards the fields below; held for one write(2)
	segments []segment  // oldest first; the last is appended to
	file     *os.File   // the last segment, or nil before the first append
	size     int64      // of it
	nextDay  time.Time  // when it has to end
	dirty    bool       // written to since it was last synced
	named    bool       // a segment was begun since the directory was last synced
	rotated  []*os.File // written to, to be synced and closed
	broken   error      // what made the last segment unfit for more, until a new one is begun
	closed   bool
}

// Open opens the ledger in a directory, and cuts off what a crash left of the
// last record.
func Open(o Options) (*Ledger, error) {
	const op = "meter.Open"
	if o.Dir == "" {
		return nil, lambent.Errorf(lambent.Invalid, op, "directory of the ledger is empty: name one")
	}
	if o.MaxAge < 0 || o.MaxBytes < 0 || o.SegmentBytes < 0 {
		return nil, lambent.Errorf(lambent.Invalid, op, "bounds of the ledger (%v, %d bytes, segments of %d bytes): none may be negative", o.MaxAge, o.MaxBytes, o.SegmentBytes)
	}
	if o.MaxAge == 0 {
		o.MaxAge = 400 * 24 * time.Hour
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 30
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{o: o, quit: make(chan struct{}), done: make(chan struct{})}
	if err := l.load(); err != nil {
		return nil, explain(op, o.Dir, err)
	}
	go l.keeper()
	return l, nil
}

// load finds the segments and opens the newest.
func (l *Ledger) load() error {
	if err := os.MkdirAll(l.o.Dir, 0o700); err != nil {
		return err
	}
	var err error
	if l.segments, err = listSegments(l.o.Dir); err != nil || len(l.segments) == 0 {
		return err
	}
	newest := l.segments[len(l.segments)-1]
	f, err := os.OpenFile(l.path(newest), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	whole, err := wholeRecords(f, newest.size)
	if err == nil && whole < newest.size {
		l.o.Logger.Warn("cutting off a record that a crash left unfinished", "file", f.Name(), "offset", whole, "bytes", newest.size-whole)
		err = f.Truncate(whole)
	}
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size, l.dirty, l.named = f, whole, true, true
	l.nextDay = dayAfter(newest.begun())
	return nil
}

// wholeRecords returns where the last record that has its newline ends.
func wholeRecords(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				return end - n + i + 1, nil
			}
		}
		end -= n
	}
	return 0, nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// Append writes one record. It returns after the write(2) and does not wait for
// the disk. Kinds: NoSpace, Unavailable after Close; after any error nothing of
// the record is left.
func (l *Ledger) Append(u *lambent.Usage) error {
	const op = "meter.Append"
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = appendRecord((*buf)[:0], u)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return lambent.Errorf(lambent.Unavailable, op, "the ledger is closed")
	}
	if err := l.write(*buf); err != nil {
		return explain(op, l.o.Dir, err)
	}
	return nil
}

// write appends a record to the last segment, or a new one if it is time.
func (l *Ledger) write(b []byte) error {
	if l.file == nil || l.broken != nil || l.size+int64(len(b)) > l.o.SegmentBytes && l.size > 0 || !time.Now().Before(l.nextDay) {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(b)
	if err == nil {
		l.size += int64(n)
		l.dirty = true
		return nil
	}
	if n > 0 {
		// A part of a record would spoil the one after it.
		if cut := l.file.Truncate(l.size); cut != nil {
			l.broken = cut
			l.o.Logger.Error("a record that could not be written cannot be removed: beginning a new segment", "file", l.file.Name(), "error", cut)
		}
	}
	return err
}

// rotate begins a segment.
func (l *Ledger) rotate() error {
	begun := time.Now().UTC().Truncate(time.Microsecond)
	nextDay := dayAfter(begun)
	if n := len(l.segments); n > 0 {
		if last := l.segments[n-1].begun(); !begun.After(last) { // names keep the order, whatever the clock does
			begun = last.Add(time.Microsecond)
		}
	}
	seg := newSegment(begun)
	f, err := os.OpenFile(l.path(seg), os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if l.file != nil {
		l.rotated = append(l.rotated, l.file)
		l.segments[len(l.segments)-1].size = l.size
	}
	l.segments = append(l.segments, seg)
	l.file, l.size, l.nextDay, l.broken = f, 0, nextDay, nil
	l.dirty, l.named = true, true
	return nil
}

func dayAfter(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour) }

func (l *Ledger) path(s segment) string { return filepath.Join(l.o.Dir, s.name) }

// Sync returns when every record whose Append has returned is on disk.
func (l *Ledger) Sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	rotated, file, dirty, named := l.rotated, l.file, l.dirty, l.named
	l.rotated, l.dirty, l.named = nil, false, false
	l.mu.Unlock()
	var errs []error
	for _, f := range rotated {
		errs = append(errs, f.Sync(), f.Close())
	}
	if dirty {
		errs = append(errs, file.Sync())
	}
	if named {
		errs = append(errs, atomicfile.SyncDir(l.o.Dir)) // the names of new segments
	}
	if err := errors.Join(errs...); err != nil {
		l.mu.Lock()
		l.dirty, l.named = true, true // try again: a full disk may have room by then
		l.mu.Unlock()
		return explain("meter.Sync", l.o.Dir, err)
	}
	return nil
}

// Close syncs what was appended. Calling it again does nothing.
func (l *Ledger) Close() error {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if was {
		return nil
	}
	close(l.quit)
	<-l.done
	err := l.Sync()
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}

// explain phrases a failure of the file system as an error of ours.
func explain(op, dir string, err error) error {
	if _, ok := errors.AsType[*lambent.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return lambent.Errorf(lambent.NoSpace, op, "no space is left on the disk of the ledger %s: %w", dir, err).WithHint("df -h %s", dir)
	case errors.Is(err, fs.ErrPermission):
		return lambent.Errorf(lambent.Forbidden, op, "the ledger %s is not writable for uid %d: %w", dir, os.Geteuid(), err).WithHint("chown -R %d %s", os.Geteuid(), dir)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return lambent.Errorf(lambent.Invalid, op, "%s cannot be the directory of the ledger: a file is in the way: %w", dir, err)
	}
	return lambent.Errorf(lambent.Internal, op, "%w", err)
}
