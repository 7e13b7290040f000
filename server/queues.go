package server

import (
	"context"

	"lambent/queue"
	"lambent/store"
)

// openQueues opens users' queues, whose messages have a log of their own: however many are
// kept, and for however long, that is nothing to what functions are to do.
func (s *Server) openQueues(ctx context.Context) error {
	log, err := s.store.OpenQueue(ctx, store.QueueOptions{Name: "messages", LaneItems: 1_000_000, LaneBytes: 5 << 30, RememberBytes: 16 << 20})
	if err != nil {
		return err
	}
	s.onClose("messages", log.Close)
	if s.queues, err = queue.Open(ctx, queue.Config{Store: s.store, Log: log, Logger: s.log}); err != nil {
		return err
	}
	s.onClose("queues", func() error { s.queues.Close(); return nil })
	return nil
}
