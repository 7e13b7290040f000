package logs

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"time"

	"lambent"
)

const sweepEvery = 10 * time.Minute

// sweeper removes what is too old, and the oldest of all where there is too much.
func (s *Logs) sweeper() {
	defer close(s.done)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		s.sweepOnce()
		select {
		case <-tick.C:
		case <-s.sweep:
		case <-s.quit:
			return
		}
	}
}

func (s *Logs) sweepSoon() {
	select {
	case s.sweep <- struct{}{}:
	default:
	}
}

func (s *Logs) sweepOnce() {
	type file struct {
		name    lambent.Name
		segment string
		size    int64
	}
	var all []file
	var sum int64
	tooOld := time.Now().Add(-s.o.MaxAge)
	for name, dir := range s.functions() {
		select {
		case <-s.quit:
			return
		default:
		}
		segments, err := listSegments(dir)
		if err != nil {
			s.o.Logger.Error("a function's log cannot be listed", "dir", dir, "error", err)
			continue
		}
		for _, seg := range segments {
			if info, err := os.Stat(filepath.Join(dir, seg.name)); err == nil && info.ModTime().Before(tooOld) {
				s.remove(name, seg.name, tooOld)
				continue
			}
			all = append(all, file{name, seg.name, seg.size})
			sum += seg.size
		}
	}
	s.onDisk.Store(sum)
	if sum <= s.o.TotalBytes {
		return
	}
	slices.SortFunc(all, func(a, b file) int { return cmp.Compare(a.segment, b.segment) })
	for _, f := range all {
		if sum <= s.o.TotalBytes/10*9 { // some room, so as not to sweep for each line
			break
		}
		s.remove(f.name, f.segment, time.Now())
		sum -= f.size
	}
	s.onDisk.Store(sum)
}

// remove removes one segment of a function's log, unless it was written to since
// a time.
func (s *Logs) remove(name lambent.Name, segment string, since time.Time) {
	d := &s.Function(name).disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if info, err := os.Stat(filepath.Join(d.dir, segment)); err != nil || info.ModTime().After(since) {
		return
	}
	if err := d.remove(segment); err != nil {
		s.o.Logger.Error("an old part of a function's log cannot be removed", "dir", d.dir, "error", err)
	}
	_ = os.Remove(d.dir) // succeeds if it is empty
}

// functions returns the functions that have a directory.
func (s *Logs) functions() map[lambent.Name]string {
	all := make(map[lambent.Name]string)
	dirs, err := filepath.Glob(filepath.Join(s.o.Dir, "*", "*"))
	if err != nil {
		return all
	}
	for _, dir := range dirs {
		n := lambent.Name{Project: filepath.Base(filepath.Dir(dir)), Function: filepath.Base(dir)}
		if n.Validate() == nil {
			all[n] = dir
		}
	}
	return all
}
