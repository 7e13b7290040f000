package store

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// LoseAcks makes the next n writes reach the engine and their acknowledgements
// not reach us.
func (s *Store) LoseAcks(n int32) {
	var lost atomic.Int32
	send := s.js.PublishMsg
	s.send = func(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
		ack, err := send(ctx, m, opts...)
		if lost.Add(1) <= n {
			return nil, nats.ErrTimeout
		}
		return ack, err
	}
}

// Messages returns how many messages the engine holds, marks of deletes included.
func (s *Store) Messages(ctx context.Context) (uint64, error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Msgs, nil
}

// SetMarkFor makes deletes leave their marks for a shorter time.
func SetMarkFor(d time.Duration) (restore func()) {
	markFor = d
	return func() { markFor = deletedFor }
}
