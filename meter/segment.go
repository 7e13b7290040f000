package meter

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"
)

const (
	segmentLayout = "20060102T150405.000000Z"
	segmentSuffix = ".jsonl"
)

// A segment is one file of the ledger. Its name is the moment that it was begun.
type segment struct {
	name string
	size int64 // of the last one it is Ledger.size that holds
}

func newSegment(begun time.Time) segment {
	return segment{name: begun.Format(segmentLayout) + segmentSuffix}
}

func (s segment) begun() time.Time {
	t, _ := time.Parse(segmentLayout, strings.TrimSuffix(s.name, segmentSuffix)) // checked when it was listed
	return t
}

// listSegments returns the segments in a directory, oldest first. Other files are
// left alone.
func listSegments(dir string) ([]segment, error) {
	files, err := os.ReadDir(dir) // in the order of their names
	if err != nil {
		return nil, err
	}
	var segments []segment
	for _, f := range files {
		stamp, ok := strings.CutSuffix(f.Name(), segmentSuffix)
		if _, bad := time.Parse(segmentLayout, stamp); !ok || bad != nil {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return nil, err
		}
		segments = append(segments, segment{name: f.Name(), size: info.Size()})
	}
	return segments, nil
}

// keeper syncs what was appended, and removes what is over the retention.
func (l *Ledger) keeper() {
	defer close(l.done)
	syncs, retains := time.NewTicker(syncEvery), time.NewTicker(retainEvery)
	defer syncs.Stop()
	defer retains.Stop()
	l.retain()
	for {
		select {
		case <-syncs.C:
			if err := l.Sync(); err != nil {
				l.o.Logger.Error("the ledger cannot be synced: a power cut may cost records", "error", err)
			}
		case <-retains.C:
			l.retain()
		case <-l.quit:
			return
		}
	}
}

// retain removes the oldest segments while they are too old or all are too big.
// The one that is appended to stays.
func (l *Ledger) retain() {
	for {
		l.mu.Lock()
		if len(l.segments) < 2 {
			l.mu.Unlock()
			return
		}
		oldest, sum := l.segments[0], l.size
		for _, s := range l.segments[:len(l.segments)-1] {
			sum += s.size
		}
		// The end of a segment is the beginning of the next.
		tooOld := time.Since(l.segments[1].begun()) > l.o.MaxAge
		if !tooOld && sum <= l.o.MaxBytes {
			l.mu.Unlock()
			return
		}
		l.segments = l.segments[1:]
		l.mu.Unlock()
		if !tooOld {
			l.o.Logger.Warn("removing usage records before their time: the ledger is over its size limit", "segment", oldest.name, "bytes", sum, "limit", l.o.MaxBytes)
		}
		if err := os.Remove(l.path(oldest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.o.Logger.Error("an old segment of the ledger cannot be removed", "segment", oldest.name, "error", err)
		}
	}
}
