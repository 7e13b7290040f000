package postgres

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"lambent"
	"lambent/internal/rows"
	"lambent/source"
)

const (
	// tick is how often PostgreSQL is told where the trigger has come to, at least.
	tick = time.Second

	// measureEvery is how often it is asked what it keeps for the trigger.
	measureEvery = 10 * time.Second

	// silence is after how long without a word the connection is taken for dead: it is
	// asked for one each tick.
	silence = 45 * time.Second

	maxRetained = 1 << 30 // where Source.MaxRetained is not said
)

// A watch is one run of a trigger: connections, and what was told on them.
type watch struct {
	src       *Source
	t         *lambent.Trigger
	d         *lambent.Database
	sink      source.Sink
	from      position
	log       *pgconn.PgConn
	sql       *pgconn.PgConn
	relations map[uint32]*relation
	types     map[uint32]form
	out       *rows.Publisher[position]

	mu      sync.Mutex // guards what follows
	lag     source.Lag
	known   bool
	working *rows.Publisher[position] // out, once there is one
}

// now is by how much the trigger is behind.
func (w *watch) now() (source.Lag, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lag := w.lag
	if w.working != nil {
		var refused string
		if lag.Behind, refused = w.working.Behind(); refused != "" && lag.Warning == "" {
			lag.Warning = refused
		}
	}
	return lag, w.known
}

// run watches until ctx ends, or one of the connections does.
func (w *watch) run(ctx context.Context) (err error) {
	if w.log, err = connectReplication(ctx, w.d); err != nil {
		return err
	}
	defer hang(w.log)
	if w.sql, err = connect(ctx, w.d); err != nil {
		return err
	}
	defer hang(w.sql)
	system, err := pglogrepl.IdentifySystem(ctx, w.log)
	if err != nil {
		return err
	}
	if system.SystemID != w.from.System {
		return w.lost("another PostgreSQL answers at " + w.d.Masked())
	}
	end, err := column(ask(ctx, w.sql, "SELECT pg_current_wal_insert_lsn()"))
	if err != nil {
		return err
	}
	if lsn, err := pglogrepl.ParseLSN(end[0]); err != nil || lsn < w.from.LSN { // it has forgotten what it had told, and counts anew
		return w.lost(fmt.Sprintf("the log of PostgreSQL ends at %s, before %s to which the trigger has come", end[0], w.from.LSN))
	}
	if err := w.follows(ctx, system.Timeline); err != nil {
		return err
	}
	w.from.Timeline = system.Timeline
	w.out = rows.NewPublisher(w.t, w.sink, w.from)
	w.mu.Lock()
	w.working = w.out
	w.mu.Unlock()
	return w.out.While(ctx, func(ctx context.Context) error {
		if w.from.Snapshot {
			if err := w.snapshot(ctx); err != nil {
				return err
			}
		}
		return w.stream(ctx)
	})
}

// stream reads the log.
func (w *watch) stream(ctx context.Context) error {
	err := pglogrepl.StartReplication(ctx, w.log, nameOf(w.t), w.from.LSN, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names " + literal(w.from.Publication)},
	})
	if err != nil {
		return w.slotError(err)
	}
	s := &stream{watch: w, at: w.from, end: w.from.LSN, heard: time.Now()}
	if err := s.measure(ctx); err != nil {
		return err
	}
	next := time.Now().Add(tick)
	for {
		wait, cancel := context.WithDeadline(ctx, next)
		m, err := w.log.ReceiveMessage(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			_ = s.tell(false) // what was published is not told again
			return nil
		case err != nil && pgconn.Timeout(err):
		case err != nil:
			return w.slotError(err)
		default:
			s.heard = time.Now()
			if err := s.message(ctx, m); err != nil && ctx.Err() == nil {
				return err
			}
		}
		if now := time.Now(); !now.Before(next) {
			next = now.Add(tick)
			if err := s.beat(ctx); err != nil {
				return err
			}
		}
	}
}

// slotError is an error of reading the log.
func (w *watch) slotError(err error) error {
	switch codeOf(err) {
	case codeUndefined:
		return w.lost("what the trigger reads was dropped (" + line(err) + ")")
	case codeNotReady, codeMissingSegment:
		return w.lost("PostgreSQL has thrown away log that the trigger had not read (" + line(err) + ")")
	}
	return err
}

// A stream is what is known of the log while it is read.
type stream struct {
	*watch
	at       position      // behind what was read
	end      pglogrepl.LSN // before it all is known
	index    int           // of the next change in the transaction
	skip     int           // changes of it that were published before
	inside   bool          // a transaction
	commit   pglogrepl.LSN // of it
	name     string
	when     time.Time
	heard    time.Time
	measured time.Time
}

// beat tells PostgreSQL where we are, and asks it now and then.
func (s *stream) beat(ctx context.Context) error {
	if time.Since(s.heard) > silence {
		return lambent.Errorf(lambent.Unavailable, "postgres", "PostgreSQL at %s has said nothing for %v", s.d.Masked(), silence)
	}
	if err := s.tell(true); err != nil {
		return err
	}
	if time.Since(s.measured) > measureEvery {
		return s.measure(ctx)
	}
	return nil
}

// tell tells PostgreSQL what it need not keep any more.
func (s *stream) tell(ask bool) error {
	reached, idle := s.out.Reached()
	at := reached.LSN
	if idle && !s.inside { // what is not for us is done with, too
		at = max(at, s.end)
	}
	return pglogrepl.SendStandbyStatusUpdate(context.Background(), s.log, pglogrepl.StandbyStatusUpdate{WALWritePosition: at, ReplyRequested: ask})
}

// measure asks what PostgreSQL keeps for the trigger.
func (s *stream) measure(ctx context.Context) error {
	s.measured = time.Now()
	rows, err := ask(ctx, s.sql, `SELECT coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, coalesce(wal_status, '')
		FROM pg_replication_slots WHERE slot_name = $1`, nameOf(s.t))
	if err != nil || len(rows) == 0 {
		return err
	}
	retained, _ := strconv.ParseInt(rows[0][0], 10, 64)
	status := rows[0][1]
	lag := source.Lag{Retained: retained}
	switch {
	case status == "unreserved" || status == "lost":
		lag.Warning = "PostgreSQL is about to throw away log that the trigger has not read: raise max_slot_wal_keep_size"
	case retained > cmp.Or(s.src.MaxRetained, maxRetained):
		lag.Warning = fmt.Sprintf("PostgreSQL keeps %d MB of its log for the trigger, which its disk is to have room for: is the function slow, or a transaction open?", retained>>20)
	}
	s.mu.Lock()
	news := lag.Warning != "" && s.lag.Warning == ""
	s.lag, s.known = lag, true
	s.mu.Unlock()
	if news && s.src.Warn != nil {
		s.src.Warn(s.t, lag.Warning)
	}
	return nil
}

// message takes in what PostgreSQL says.
func (s *stream) message(ctx context.Context, m pgproto3.BackendMessage) error {
	switch m := m.(type) {
	case *pgproto3.ErrorResponse:
		return s.slotError(pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyData:
		if len(m.Data) == 0 {
			return nil
		}
		switch m.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			k, err := pglogrepl.ParsePrimaryKeepaliveMessage(m.Data[1:])
			if err != nil {
				return err
			}
			s.end = max(s.end, k.ServerWALEnd)
			if k.ReplyRequested {
				return s.tell(false)
			}
		case pglogrepl.XLogDataByteID:
			x, err := pglogrepl.ParseXLogData(m.Data[1:])
			if err != nil {
				return err
			}
			told, err := pglogrepl.Parse(x.WALData)
			if err != nil {
				return lambent.Errorf(lambent.Internal, "postgres", "what PostgreSQL tells cannot be read: %w", err)
			}
			return s.told(ctx, told)
		}
	case *pgproto3.CopyDone:
		return lambent.Errorf(lambent.Unavailable, "postgres", "PostgreSQL at %s has ended the connection", s.d.Masked())
	}
	return nil
}

// told takes in a part of a transaction.
func (s *stream) told(ctx context.Context, m pglogrepl.Message) error {
	switch m := m.(type) {
	case *pglogrepl.RelationMessage:
		return s.relate(ctx, m)
	case *pglogrepl.BeginMessage:
		s.inside, s.commit, s.when, s.name, s.index, s.skip = true, m.FinalLSN, m.CommitTime, strconv.FormatUint(uint64(m.Xid), 10), 0, 0
		if s.from.Commit == m.FinalLSN {
			s.skip = s.from.Done
		}
	case *pglogrepl.CommitMessage:
		s.inside = false
		s.at.LSN, s.at.Commit, s.at.Done = m.TransactionEndLSN, 0, 0
		s.end = max(s.end, m.TransactionEndLSN)
		if s.index > 0 {
			return s.add(ctx, nil)
		}
	case *pglogrepl.InsertMessage:
		return s.changed(ctx, m.RelationID, "insert", nil, false, m.Tuple)
	case *pglogrepl.UpdateMessage:
		return s.changed(ctx, m.RelationID, "update", m.OldTuple, m.OldTupleType == pglogrepl.UpdateMessageTupleTypeKey, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return s.changed(ctx, m.RelationID, "delete", m.OldTuple, m.OldTupleType == pglogrepl.DeleteMessageTupleTypeKey, nil)
	case *pglogrepl.TruncateMessage:
		for _, id := range m.RelationIDs {
			if err := s.changed(ctx, id, "truncate", nil, false, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// changed takes in a change of a table.
func (s *stream) changed(ctx context.Context, table uint32, operation string, before *pglogrepl.TupleData, key bool, after *pglogrepl.TupleData) error {
	r := s.relations[table]
	if r == nil {
		return lambent.Errorf(lambent.Internal, "postgres", "PostgreSQL has told a change of table %d, and not what that is", table)
	}
	s.index++
	if s.index <= s.skip || !r.wanted || !s.d.Wants(operation) {
		return nil
	}
	c := s.change(r, operation, before, key, after)
	c.Position, c.Index, c.Transaction, c.Committed = s.commit.String(), s.index-1, s.name, s.when
	s.at.Commit, s.at.Done = s.commit, s.index
	return s.add(ctx, c)
}

// add has a change published, and waits while there is no room for it.
func (s *stream) add(ctx context.Context, c *rows.Change) error {
	return s.out.Put(ctx, c, s.at, func() error {
		s.heard = time.Now() // nobody has listened
		return s.beat(ctx)
	})
}
