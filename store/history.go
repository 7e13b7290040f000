package store

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	historyStream  = "HISTORY"
	historySubject = "history"

	historyPart = 256 << 10             // bytes of documents that are written together
	historyWait = 50 * time.Millisecond // that one may wait for others
	historyMost = 16 << 20              // bytes of documents that may wait
)

// HistoryOptions are the bounds of a history. Zero values are the defaults.
type HistoryOptions struct {
	Age   time.Duration // 7 days
	Bytes int64         // 1 GB
}

// A History keeps documents of one line for a while, to be looked at, the newest first:
// what is too old, or too much, goes. It is no promise: a crash loses what came within the last 50 ms, and
// a disk that does not keep up what is over 16 MB. Methods may be called concurrently.
type History struct {
	s      *Store
	stream jetstream.Stream
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	kick   chan struct{}
	ended  chan struct{}

	mu      sync.Mutex // guards what follows
	pending [][]byte
	bytes   int           // of pending
	dropped int           // since that was said last
	written chan struct{} // closed when what was pending is written
}

// OpenHistory opens the store's history. It is to be closed before the store.
func (s *Store) OpenHistory(ctx context.Context, o HistoryOptions) (*History, error) {
	if o.Age == 0 {
		o.Age = 7 * 24 * time.Hour
	}
	if o.Bytes == 0 {
		o.Bytes = 1 << 30
	}
	stream, err := s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: historyStream, Subjects: []string{historySubject}, Storage: jetstream.FileStorage, Replicas: 1, AllowDirect: true,
		Discard: jetstream.DiscardOld, MaxAge: o.Age, MaxBytes: o.Bytes,
	})
	if err != nil {
		return nil, explain("store.OpenHistory", s.dir.path, err)
	}
	h := &History{s: s, stream: stream, kick: make(chan struct{}, 1), ended: make(chan struct{}), written: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	go h.write()
	return h, nil
}

// Append keeps a document, soon; it does not wait. The document is one line, without its
// end, and the history's to keep.
func (h *History) Append(document []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.bytes+len(document) > historyMost {
		h.dropped++
		return
	}
	h.pending = append(h.pending, document)
	h.bytes += len(document)
	poke(h.kick)
}

// write writes what comes, together with what comes within a moment.
func (h *History) write() {
	defer close(h.ended)
	for ending := false; !ending; {
		select {
		case <-h.kick:
			timer := time.NewTimer(historyWait)
			select {
			case <-timer.C:
			case <-h.ctx.Done():
				timer.Stop()
			}
		case <-h.ctx.Done():
			ending = true
		}
		h.mu.Lock()
		documents, written := h.pending, h.written
		h.pending, h.bytes, h.written = nil, 0, make(chan struct{})
		if h.dropped > 0 {
			h.s.log.Warn("the history of events lacks some: the disk did not keep up", "events", h.dropped)
			h.dropped = 0
		}
		h.mu.Unlock()
		h.store(documents)
		close(written)
	}
}

// store writes documents, as few messages as hold them, until one is refused. It leaves
// the end of the disk to what has to be written.
func (h *History) store(documents [][]byte) {
	var part []byte
	for i, d := range documents {
		part = append(append(part, d...), '\n')
		if i < len(documents)-1 && len(part)+len(documents[i+1]) < historyPart {
			continue
		}
		if err := h.publish(part); err != nil {
			h.s.log.Warn("the history of events lacks some: it could not be written", "events", len(documents)-i, "err", err)
			return
		}
		part = nil
	}
}

func (h *History) publish(part []byte) error {
	if err := h.s.Spare("store.History", 0); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
	defer cancel()
	m := nats.NewMsg(historySubject)
	m.Data = part
	_, err := h.s.js.PublishMsg(ctx, m)
	return err
}

// Newest yields the documents, the newest first, each with a time that it is not newer
// than, and an error last if it could not go on.
func (h *History) Newest(ctx context.Context) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		const op = "store.Newest"
		h.mu.Lock()
		written := h.written
		poke(h.kick)
		h.mu.Unlock()
		select {
		case <-written:
		case <-ctx.Done():
			yield(Document{}, explain(op, "", ctx.Err()))
			return
		case <-h.ended:
		}
		info, err := h.stream.Info(ctx)
		if err != nil {
			yield(Document{}, explain(op, "", err))
			return
		}
		for sequence := info.State.LastSeq; sequence >= info.State.FirstSeq && sequence > 0; sequence-- {
			m, err := h.stream.GetMsg(ctx, sequence)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return // it has become too old
			}
			if err != nil {
				yield(Document{}, explain(op, "", err))
				return
			}
			for rest := bytes.TrimSuffix(m.Data, []byte("\n")); len(rest) > 0; {
				i := bytes.LastIndexByte(rest, '\n')
				if !yield(Document{rest[i+1:], m.Time, Place{sequence, uint32(i + 1), uint32(len(rest))}}, nil) {
					return
				}
				rest = rest[:max(i, 0)]
			}
		}
	}
}

// At yields the documents that are at places, in their order. What has gone since is left
// out.
func (h *History) At(ctx context.Context, places []Place) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		var m *jetstream.RawStreamMsg
		for _, p := range places {
			if m == nil || m.Sequence != p.sequence {
				var err error
				m, err = h.stream.GetMsg(ctx, p.sequence)
				if errors.Is(err, jetstream.ErrMsgNotFound) {
					continue
				}
				if err != nil {
					yield(Document{}, explain("store.At", "", err))
					return
				}
			}
			if !yield(Document{m.Data[p.from:p.to], m.Time, p}, nil) {
				return
			}
		}
	}
}

// A Document is what a history has kept.
type Document struct {
	Text   []byte
	Before time.Time // when it was written, which is some time after it came
	Place  Place
}

// A Place is where a history has a document: to come back to it.
type Place struct {
	sequence uint64
	from, to uint32
}

// Close writes what is left and ends the history. Calling it again does nothing.
func (h *History) Close() error {
	h.cancel()
	<-h.ended
	return nil
}
