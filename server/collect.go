package server

import (
	"context"
	"time"

	"lambent/control"
)

const collectEvery = 6 * time.Hour

// collect removes code that nothing refers to any more, now and then. What was
// asked for lately stays: a deploy may be about to refer to it (see
// control.References).
func (s *Server) collect(ctx context.Context) {
	for {
		select {
		case <-time.After(collectEvery):
		case <-ctx.Done():
			return
		}
		if err := s.collectOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("unused code cannot be removed", "error", err)
		}
	}
}

func (s *Server) collectOnce(ctx context.Context) error {
	if _, err := s.control.Sweep(ctx); err != nil {
		return err
	}
	items, err := s.code.List() // before the references: what is put later is not on it
	if err != nil {
		return err
	}
	used, err := s.control.References(ctx)
	if err != nil {
		return err
	}
	s.python.refer(used)
	for _, it := range items {
		if !used[it.Digest] && time.Since(it.Put) > control.SweepAge {
			if err := s.code.Remove(it); err != nil {
				s.log.Warn("unused code cannot be removed", "digest", it.Digest, "error", err)
			}
		}
	}
	return nil
}
