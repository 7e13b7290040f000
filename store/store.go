// Package store keeps the platform's durable state in a NATS JetStream engine
// that runs inside this process and listens nowhere: small records under dotted
// keys ([Store]), lanes of work to be done later ([Queue]), and documents that are looked
// at for a while ([History]).
//
// What it guarantees: a write that returned nil is on disk (every one is
// fsynced; a history promises less) and survives kill -9 and power loss. Each key changes by
// compare-and-set on the revision that the writer read. An item of a queue is
// handed out until it is finished, at least once, and its id is added once. A
// write whose acknowledgement was lost is sent again without ever counting
// twice. A data directory is open in one process at a time, and is never opened
// by a program that is too old for it, or in another mode than it was made in.
//
// What it does not do: transactions over several keys (control orders its
// writes instead), large values (code is files, see bundle), queries, and what a
// failure means: how often, when and where to work is tried again is its
// holder's to say. It is not for the synchronous path of an invocation.
package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// Options say where a store lives.
type Options struct {
	Dir string       // the server's data directory; the store locks it whole, and uses the folder state in it
	Log *slog.Logger // what the engine says, at Debug except for its errors; nil: nowhere
}

// A Store is an open data directory. Its methods may be called concurrently.
type Store struct {
	dir     *dir
	engine  *engine
	js      jetstream.JetStream
	records jetstream.KeyValue
	stream  jetstream.Stream
	queues  sync.Map // those that are open, by name
	log     *slog.Logger

	// send is js.PublishMsg; tests lose acknowledgements here.
	send func(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error)

	ending   context.Context // done once Close has begun
	end      context.CancelFunc
	watchers sync.WaitGroup
	close    sync.Once
}

// Open locks the data directory, making it if there is none, and starts the
// engine on it. The error names what is wrong in one line: the directory in use
// (by which process), not ours, not writable, of a newer format, or full.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dir, err := openDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, log: o.Log}
	s.ending, s.end = context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		_ = s.Close() // the reason why it could not start is the one to tell
		return nil, explain("store.Open", o.Dir, err)
	}
	return s, nil
}

// start brings up the engine and binds the stream of records.
func (s *Store) start(ctx context.Context) error {
	state, err := s.dir.folder("state")
	if err != nil {
		return err
	}
	if s.engine, err = startEngine(ctx, state, s.log); err != nil {
		return err
	}
	if s.js, err = jetstream.New(s.engine.conn); err != nil {
		return err
	}
	s.send = s.js.PublishMsg
	s.stream, err = s.js.CreateOrUpdateStream(ctx, recordStream)
	if err != nil {
		return err
	}
	s.records, err = s.js.KeyValue(ctx, recordBucket)
	return err
}

// Announce writes the address that the server listens on into the lock file,
// for the error that a second server gets.
func (s *Store) Announce(address string) error { return s.dir.announce(address) }

// Spare is an error while there is no room on the disk for so many bytes of what can be done
// without. Kind: NoSpace.
func (s *Store) Spare(op string, bytes int64) error { return s.dir.spare(op, bytes) }

// Close ends the watches, waiting for their functions to return, stops the
// engine and unlocks the directory. It must not be called by a function that a
// watch runs. Calling it again does nothing.
func (s *Store) Close() error {
	var err error
	s.close.Do(func() {
		s.queues.Range(func(_, q any) bool {
			err = cmp.Or(err, q.(*Queue).Close())
			return true
		})
		s.end()
		s.watchers.Wait()
		if s.engine != nil {
			s.engine.stop()
		}
		err = cmp.Or(err, s.dir.unlock())
	})
	return err
}

// explain phrases a failure of the file system or the engine as an error of
// ours; one that is ours already passes through.
func explain(op, path string, err error) error {
	if _, ok := errors.AsType[*lambent.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return lambent.Errorf(lambent.NoSpace, op, "no space is left on the disk of data directory %s: %w", path, err).WithHint("df -h %s", path)
	case errors.Is(err, syscall.EROFS):
		return lambent.Errorf(lambent.Forbidden, op, "data directory %s is on a read-only file system: %w", path, err).WithHint("lambent serve --data DIR")
	case errors.Is(err, fs.ErrPermission):
		return lambent.Errorf(lambent.Forbidden, op, "data directory %s is not writable for uid %d: %w", path, os.Geteuid(), err).WithHint("chown -R %d %s", os.Geteuid(), path)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return lambent.Errorf(lambent.Invalid, op, "data directory %s cannot be one: a file is in the way: %w", path, err).WithHint("lambent serve --data DIR")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return lambent.Errorf(lambent.Canceled, op, "given up before it was done: %w", err)
	}
	return lambent.Errorf(lambent.Internal, op, "%w", err)
}
