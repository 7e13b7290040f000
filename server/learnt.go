package server

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lambent/internal/atomicfile"
)

// learntFile has what was learnt of when functions are called: how long to keep
// their instances. Losing it costs some cold starts.
const learntFile = "learnt.json"

const learntEvery = 10 * time.Minute

func (s *Server) readLearnt() (learnt map[string][]byte) {
	b, err := os.ReadFile(filepath.Join(s.cfg.Data, learntFile))
	if err == nil {
		err = json.Unmarshal(b, &learnt)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("what was learnt of when functions are called cannot be read: learning it anew", "error", err)
	}
	return learnt
}

// writeLearnt never fails a server: not one whose disk is full, nor one that ends.
func (s *Server) writeLearnt() {
	b, err := json.Marshal(s.dispatch.Learnt())
	if err == nil {
		err = atomicfile.Write(filepath.Join(s.cfg.Data, learntFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		s.log.Warn("what was learnt of when functions are called cannot be written", "error", err)
	}
}

// keepLearnt writes it now and then, for a server that does not end by being asked to.
func (s *Server) keepLearnt(ctx context.Context) {
	for {
		select {
		case <-time.After(learntEvery):
		case <-ctx.Done():
			return
		}
		s.writeLearnt()
	}
}
