package scale

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// Histogram is the policy of Shahrad et al., "Serverless in the Wild" (USENIX ATC
// 2020): of the times that a function was idle, in bins of a minute over an hour,
// it takes the 5th percentile less 10 % as the time for which no instance is
// needed, where that is over a minute, and the 99th plus 10 % as the time until
// which one is kept. Where it has seen little, or where the bins do not differ (a
// coefficient of variation of under 2), or where over half of the times are over
// the hour, it keeps for 10 minutes.
//
// It knows no levels: there is one histogram, of the first. Further instances
// are kept by the same times.
type Histogram struct {
	bins        [60]uint32
	n, over     uint32
	sumSquares  float64
	from, until time.Duration // as of planned samples
	planned     uint32
}

// NewHistogram returns one that has seen nothing.
func NewHistogram() *Histogram { return &Histogram{until: histogramFallback} }

const (
	histogramFewest   = 10 // samples
	histogramFallback = 10 * time.Minute
)

// Used implements Policy.
func (h *Histogram) Used(level int, idle time.Duration, _ bool) {
	if level != 1 {
		return
	}
	h.n++
	if idle >= time.Duration(len(h.bins))*time.Minute {
		h.over++
		return
	}
	b := &h.bins[idle/time.Minute]
	h.sumSquares += 2*float64(*b) + 1
	*b++
}

// Want implements Policy.
func (h *Histogram) Want(_ int, idle time.Duration, _ Cost) (bool, time.Duration) {
	if h.planned != h.n {
		h.plan()
	}
	switch {
	case idle < h.from:
		return false, h.from
	case idle < h.until:
		return true, h.until
	}
	return false, Never
}

func (h *Histogram) plan() {
	h.planned = h.n
	h.from, h.until = 0, histogramFallback
	within := h.n - h.over
	if within < histogramFewest || h.over > within {
		return
	}
	mean := float64(within) / float64(len(h.bins))
	variance := h.sumSquares/float64(len(h.bins)) - mean*mean
	if math.Sqrt(variance)/mean < 2 {
		return
	}
	// Times are rounded down for the head and up for the tail, as in the paper.
	head := time.Duration(h.percentile(within, 0.05)) * time.Minute
	tail := time.Duration(h.percentile(within, 0.99)+1) * time.Minute
	if head = head * 9 / 10; head > time.Minute {
		h.from = head
	}
	h.until = tail * 11 / 10
}

// percentile returns the bin that a share of n samples is up to.
func (h *Histogram) percentile(n uint32, share float64) int {
	need := uint32(math.Ceil(share * float64(n)))
	for i, b := range h.bins {
		if need <= b {
			return i
		}
		need -= b
	}
	return len(h.bins) - 1
}

const histogramVersion = 1

// MarshalBinary implements encoding.BinaryMarshaler.
func (h *Histogram) MarshalBinary() ([]byte, error) {
	b := []byte{histogramVersion}
	b = binary.AppendUvarint(b, uint64(h.over))
	for _, n := range h.bins {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. After an error nothing
// has changed.
func (h *Histogram) UnmarshalBinary(b []byte) error {
	r := reader{b: b}
	r.version(histogramVersion)
	var n Histogram
	n.over = r.count()
	n.n = n.over
	for i := range n.bins {
		n.bins[i] = r.count()
		n.n += n.bins[i]
		n.sumSquares += float64(n.bins[i]) * float64(n.bins[i])
	}
	if err := r.end(); err != nil {
		return err
	}
	n.plan()
	*h = n
	return nil
}

var errState = errors.New("scale: this is not the state of such a policy")

// A reader takes what a policy has marshalled apart.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) version(v byte) {
	if len(r.b) == 0 || r.b[0] != v {
		r.bad = true
		return
	}
	r.b = r.b[1:]
}

func (r *reader) count() uint32 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > math.MaxUint32/64 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return errState
	}
	return nil
}
