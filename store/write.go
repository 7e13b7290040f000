package store

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"lambent"
)

const (
	// attemptTimeout is how long one sending of a write waits for its
	// acknowledgement; a disk that is busy may well take seconds to sync.
	attemptTimeout = 5 * time.Second
	// writeTimeout bounds all sendings together.
	writeTimeout = 60 * time.Second
	// retryWindow is how long the engine knows a message again. It must be well
	// over writeTimeout: a write that is sent again after it could count twice.
	retryWindow = 2 * time.Minute
)

// write stores a message if the newest one of its subject has the sequence
// number at (0: there is none), and returns the new one's.
//
// A lost acknowledgement says nothing about whether the write was stored. The
// same bytes are sent again under the same id until the answer is clear. If the
// first sending was stored, the answer to the second is "stale", because the
// engine looks at the expected sequence before the id; so that answer is
// believed only once the engine says that it does not know the id.
//
// Once the message is under way it no longer listens to ctx: a caller who gives
// up would otherwise never know what became of it.
func (s *Store) write(ctx context.Context, m *nats.Msg, value []byte, at uint64, opts ...jetstream.PublishOpt) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	stop := context.AfterFunc(s.ending, cancel)
	defer stop()

	m.Data = value
	id := nuid.Next()
	opts = append(opts, jetstream.WithMsgID(id), jetstream.WithExpectLastSequencePerSubject(at))
	for again := false; ; again = true {
		sequence, err := s.try(ctx, m, opts...)
		if again && isStale(err) {
			var stored bool
			if sequence, stored, err = s.knows(ctx, m.Subject, id); err == nil && !stored {
				return 0, errStale
			}
		}
		switch {
		case err == nil:
			return sequence, nil
		case !isUnclear(err):
			return 0, err
		case ctx.Err() != nil:
			return 0, lambent.Errorf(lambent.Unavailable, "store.write", "the engine has not answered: whether the record was stored is not known: %w", err)
		}
		s.log.Debug("engine: no answer to a write, sending it again", "subject", m.Subject, "err", err)
	}
}

// try sends a message once.
func (s *Store) try(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	ack, err := s.send(ctx, m, opts...)
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// knows asks the engine whether it stored a message of that id lately, and under
// which sequence number. The question is a message with that id and a condition
// that never holds: the engine looks at the id first, and stores it in no case.
func (s *Store) knows(ctx context.Context, subject, id string) (sequence uint64, stored bool, err error) {
	sequence, err = s.try(ctx, nats.NewMsg(subject), jetstream.WithMsgID(id), jetstream.WithExpectLastMsgID("-"))
	if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.ErrorCode == wrongLastMessageID {
		return 0, false, nil
	}
	return sequence, err == nil, err
}

// isUnclear reports whether a failed sending may have been stored all the same,
// or may be stored if sent again.
func isUnclear(err error) bool {
	return errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrDisconnected)
}

// errStale is the engine's refusal as write returns it where it had to find out.
var errStale = lambent.Errorf(lambent.Stale, "store.write", "stale")

// Error codes of the engine that its client library does not name.
const (
	wrongLastMessageID        = 10070
	wrongLastSequenceInFlight = 10164 // a replicated engine: another write of the key is on its way
)

// isStale reports whether a write was refused for its expected sequence.
func isStale(err error) bool {
	if err == errStale {
		return true
	}
	e, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || e.ErrorCode == wrongLastSequenceInFlight)
}
