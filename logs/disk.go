package logs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	segmentLayout = "20060102T150405.000000Z"
	segmentSuffix = ".log"
)

// A segment is one file of a log. Its name is the time of its first line.
type segment struct {
	name string
	size int64
}

func (s segment) begun() time.Time {
	t, _ := time.Parse(segmentLayout, strings.TrimSuffix(s.name, segmentSuffix)) // checked when it was listed
	return t
}

// A disk is the files of a log. It opens one for as long as a write takes, which
// costs a few microseconds for each 100 ms, and saves keeping 10,000 open.
type disk struct {
	logs *Logs
	dir  string

	mu       sync.Mutex // guards the fields below and the files; taken before the log's mu
	listed   bool
	segments []segment // oldest first; the last is written to
	torn     bool      // the last segment does not end with a newline
	lost     int       // lines that could not be written, and are not marked yet
	reason   string
}

// write appends encoded lines. If the last one is a mark, marked is what it
// counts, otherwise 0. What cannot be written is dropped and counted; retry says
// that a mark for it waits to be written.
func (d *disk) write(b []byte, marked int) (retry bool) {
	if len(b) == 0 && d.lost == 0 {
		return false
	}
	d.logs.writers <- struct{}{}
	defer func() { <-d.logs.writers }()
	failed := d.lost > 0
	if err := d.list(); err != nil {
		d.drop(b, marked, err)
		return true
	}
	if failed {
		if err := d.append(appendDrop(nil, time.Now(), d.lost, d.reason)); err != nil {
			d.drop(b, marked, err)
			return true
		}
		d.lost = 0
	}
	for len(b) > 0 {
		n := d.cut(b)
		if err := d.append(b[:n]); err != nil {
			d.drop(b, marked, err)
			if !failed {
				d.logs.o.Logger.Error("a function's log cannot be written: its lines are dropped", "dir", d.dir, "error", err)
			}
			return true
		}
		b = b[n:]
	}
	if failed {
		d.logs.o.Logger.Info("a function's log can be written again", "dir", d.dir)
	}
	return false
}

// drop counts the lines of b as lost.
func (d *disk) drop(b []byte, marked int, err error) {
	d.lost += bytes.Count(b, []byte("\n"))
	if marked > 0 && len(b) > 0 {
		d.lost += marked - 1
	}
	d.reason = "the file could not be written"
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		d.reason = errno.Error()
	}
}

// cut returns how much of b, whole lines, goes into the present segment; a line
// that is longer than a segment has one to itself.
func (d *disk) cut(b []byte) int {
	room := d.logs.segment
	if n := len(d.segments); n > 0 && d.segments[n-1].size < room {
		room -= d.segments[n-1].size
	}
	if int64(len(b)) <= room {
		return len(b)
	}
	if i := bytes.LastIndexByte(b[:room], '\n'); i >= 0 {
		return i + 1
	}
	return bytes.IndexByte(b, '\n') + 1
}

// append writes lines into the present segment, or a new one if they do not fit
// there. After an error the files are as they were.
func (d *disk) append(b []byte) error {
	f, err := d.open(b)
	if err != nil {
		return err
	}
	defer f.Close()
	seg := &d.segments[len(d.segments)-1]
	if d.torn {
		b = append([]byte("\n"), b...) // what a crash left of a line stays a line of its own
	}
	n, err := f.Write(b)
	if err != nil {
		if n > 0 && f.Truncate(seg.size) != nil {
			d.torn = true
			seg.size += int64(n)
		}
		return err
	}
	d.torn = false
	seg.size += int64(n)
	if d.logs.onDisk.Add(int64(n)) > d.logs.o.TotalBytes {
		d.logs.sweepSoon()
	}
	return nil
}

// open opens the segment that lines go to.
func (d *disk) open(b []byte) (*os.File, error) {
	if k := len(d.segments); k > 0 && d.segments[k-1].size+int64(len(b)) <= d.logs.segment {
		f, err := os.OpenFile(d.path(d.segments[k-1]), os.O_WRONLY|os.O_APPEND, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		d.segments = d.segments[:k-1] // somebody removed it
	}
	begun, err := time.Parse(timeLayout, string(b[:len(timeLayout)]))
	if err != nil {
		return nil, err
	}
	if k := len(d.segments); k > 0 {
		if last := d.segments[k-1].begun(); !begun.After(last) { // names keep the order, whatever the clock does
			begun = last.Add(time.Microsecond)
		}
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, err
	}
	seg := segment{name: begun.Format(segmentLayout) + segmentSuffix}
	f, err := os.OpenFile(d.path(seg), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	d.segments, d.torn = append(d.segments, seg), false
	d.trim()
	return f, nil
}

// trim removes the oldest segments until one more fits into the log's bytes.
func (d *disk) trim() {
	var sum int64
	for _, s := range d.segments {
		sum += s.size
	}
	for len(d.segments) > 1 && sum+d.logs.segment > max(d.logs.o.MaxBytes, 2*d.logs.segment) {
		sum -= d.segments[0].size
		if err := d.remove(d.segments[0].name); err != nil {
			d.logs.o.Logger.Error("an old part of a function's log cannot be removed", "dir", d.dir, "error", err)
			return
		}
	}
}

// remove removes a segment.
func (d *disk) remove(name string) error {
	if err := os.Remove(filepath.Join(d.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if i := slices.IndexFunc(d.segments, func(s segment) bool { return s.name == name }); i >= 0 {
		d.logs.onDisk.Add(-d.segments[i].size)
		d.segments = slices.Delete(d.segments, i, i+1)
	}
	return nil
}

// removeAll removes every file of the log.
func (d *disk) removeAll() error {
	if err := d.list(); err != nil {
		return err
	}
	if err := os.RemoveAll(d.dir); err != nil {
		d.listed = false
		return err
	}
	for _, s := range d.segments {
		d.logs.onDisk.Add(-s.size)
	}
	d.segments, d.lost, d.torn = nil, 0, false
	return nil
}

// list finds the segments that are there from an earlier run.
func (d *disk) list() error {
	if d.listed {
		return nil
	}
	segments, err := listSegments(d.dir)
	if err != nil {
		return err
	}
	if k := len(segments); k > 0 {
		if d.torn, err = isTorn(d.path(segments[k-1]), segments[k-1].size); err != nil {
			return err
		}
	}
	d.segments, d.listed = segments, true
	return nil
}

func (d *disk) path(s segment) string { return filepath.Join(d.dir, s.name) }

// listSegments returns the segments in a directory, which may not exist, oldest
// first. Other files are left alone.
func listSegments(dir string) ([]segment, error) {
	files, err := os.ReadDir(dir) // in the order of their names
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var segments []segment
	for _, f := range files {
		stamp, ok := strings.CutSuffix(f.Name(), segmentSuffix)
		if _, bad := time.Parse(segmentLayout, stamp); !ok || bad != nil {
			continue
		}
		info, err := f.Info()
		if err != nil {
			continue // removed in this moment
		}
		segments = append(segments, segment{name: f.Name(), size: info.Size()})
	}
	return segments, err
}

// isTorn reports whether a file ends in the middle of a line.
func isTorn(path string, size int64) (bool, error) {
	if size == 0 {
		return false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return false, err
	}
	return last[0] != '\n', nil
}
