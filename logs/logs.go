// Package logs keeps what functions write: one log for each function, in files
// that grep reads, bounded in bytes and in age.
//
// What it guarantees: [Log.Line] never waits for the disk, for a reader or for
// another function's log, and memory is bounded (4 MB that wait and 4 MB that are
// written for a log, 64 MB for all): where lines come faster than the disk takes
// them, or the disk is full, they are dropped, and a line in their place says how
// many. A crash of the process loses at most the last 100 ms; no
// line is half there for a reader except the last before a crash. An idle log
// holds no file open and no buffer.
//
// What it does not do: it does not fsync (a power cut may cost what the kernel
// had not written yet), and it indexes nothing: a search reads the segments of
// one function that the filter's times allow.
//
// # On disk
//
// A function's log is the directory DIR/project/function, of segments named for
// the time of their first line, such as 20260102T030405.678901Z.log. A line
// is an entry, in the order that they came:
//
//	2026-01-02T03:04:05.678901Z latest 6bc0f2c8-... text of the line
//	2026-01-02T03:04:05.678901Z ! 12 lines dropped: the disk did not keep up
//
// Time is UTC, to the microsecond. The second field is the version, the third
// the request or "-" where there is none. In the text a backslash is \\, a
// newline \n, a carriage return \r, and other control characters except the tab,
// and bytes that are not UTF-8, are \xHH. A "!" as version stands for lines that
// were dropped, and their number follows it.
//
// Names that differ in case only share a directory where the file system does
// not tell them apart.
package logs

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"lambent"
)

// Options say where logs live and how much of them is kept.
type Options struct {
	Dir        string        // made if it is not there
	MaxBytes   int64         // on disk, of one function; 0: 64 MB
	MaxAge     time.Duration // of a segment since its last line; 0: 14 days
	TotalBytes int64         // on disk, of all functions; 0: 8 GB
	Logger     *slog.Logger  // told when a disk fails and when it is well again; nil: nobody
}

const (
	segmentsPerLog = 8  // MaxBytes in as many files: the oldest eighth goes at a time
	maxWriters     = 4  // flushes that write at a time, so that a slow disk does not take a thread for each log
	minSegment     = 64 // bytes; keeps a senseless MaxBytes from making a file for each line
)

// Logs are the logs of all functions. Its methods may be called concurrently.
// Locks are taken in the order: a Log's disk, Logs.mu, a Log's mu.
type Logs struct {
	o       Options
	segment int64         // bytes at which a segment ends
	writers chan struct{} // a place for each flush that writes; taken last, under a Log's disk
	memory  atomic.Int64  // bytes of all buffers
	onDisk  atomic.Int64  // bytes of all segments, near enough
	sweep   chan struct{} // asks the sweeper to come now
	quit    chan struct{}
	done    chan struct{} // the sweeper has ended
	close   sync.Once

	mu     sync.Mutex // guards the fields below
	logs   map[lambent.Name]*Log
	closed bool
}

// Open opens the logs in a directory.
func Open(o Options) (*Logs, error) {
	const op = "logs.Open"
	if o.Dir == "" {
		return nil, lambent.Errorf(lambent.Invalid, op, "directory of logs is empty: name one")
	}
	if o.MaxBytes < 0 || o.MaxAge < 0 || o.TotalBytes < 0 {
		return nil, lambent.Errorf(lambent.Invalid, op, "bounds of logs (%d bytes, %v, %d bytes in all): none may be negative", o.MaxBytes, o.MaxAge, o.TotalBytes)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxAge == 0 {
		o.MaxAge = 14 * 24 * time.Hour
	}
	if o.TotalBytes == 0 {
		o.TotalBytes = 8 << 30
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, explain(op, o.Dir, err)
	}
	s := &Logs{
		o: o, segment: max(minSegment, o.MaxBytes/segmentsPerLog),
		writers: make(chan struct{}, maxWriters), sweep: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}), logs: make(map[lambent.Name]*Log),
	}
	go s.sweeper()
	return s, nil
}

// Function returns the log of a function, always the same one until it is
// deleted. Whoever calls vouches that there is such a function. A name that is
// not valid gets a log that keeps nothing, as does any name after Close.
func (s *Logs) Function(name lambent.Name) *Log {
	name.Qualifier = ""
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.logs[name]; l != nil && !l.hasEnded() {
		return l
	}
	l := &Log{logs: s, disk: disk{logs: s, dir: filepath.Join(s.o.Dir, name.Project, name.Function)}}
	if s.closed || name.Validate() != nil {
		l.ended = true
		return l
	}
	s.logs[name] = l
	return l
}

// Delete removes the log of a function. Lines that still come to a [Log] had
// before the call are discarded, and its followers end; a function of the same
// name starts with an empty log.
func (s *Logs) Delete(name lambent.Name) error {
	const op = "logs.Delete"
	if err := name.Validate(); err != nil {
		return err
	}
	name.Qualifier = ""
	l := s.Function(name)
	if err := l.delete(); err != nil {
		return explain(op, l.disk.dir, err)
	}
	s.mu.Lock()
	if s.logs[name] == l {
		delete(s.logs, name)
	}
	s.mu.Unlock()
	return nil
}

// Close writes what is buffered and ends followers. Lines that come later are
// discarded. Calling it again does nothing.
func (s *Logs) Close() error {
	s.close.Do(func() {
		close(s.quit)
		<-s.done
		s.mu.Lock()
		s.closed = true
		all := make([]*Log, 0, len(s.logs))
		for _, l := range s.logs {
			all = append(all, l)
		}
		s.mu.Unlock()
		for _, l := range all {
			l.close()
		}
	})
	return nil
}

// explain phrases a failure of the file system as an error of ours.
func explain(op, path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return lambent.Errorf(lambent.NoSpace, op, "no space is left on the disk of %s: %w", path, err).WithHint("df -h %s", path)
	case errors.Is(err, fs.ErrPermission):
		return lambent.Errorf(lambent.Forbidden, op, "%s is not writable for uid %d: %w", path, os.Geteuid(), err).WithHint("chown -R %d %s", os.Geteuid(), path)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return lambent.Errorf(lambent.Invalid, op, "%s cannot be a directory of logs: a file is in the way: %w", path, err)
	}
	return lambent.Errorf(lambent.Internal, op, "%w", err)
}
