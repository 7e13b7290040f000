// Package postgres turns changes of rows in PostgreSQL into events, by logical
// replication: what the database tells its standbys of each commit, in their order.
//
// For each trigger there are a publication and a replication slot of the trigger's own,
// from when it is added or enabled to when it is disabled or deleted. The slot has the
// database keep its log from where the trigger has come to, which is told to it once
// events are durable: nothing is lost while either side is down. A transaction that was
// told in part is gone on with where that ended; what is told again has the same ids.
//
// What an event has of the row before is what the table's REPLICA IDENTITY says: with
// FULL all of it, and by default its key, of deletes and of updates that change that. A
// large value that an update leaves as it is (TOAST) is taken from the row before, if
// that is told, and is else named as unchanged.
package postgres

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"lambent"
	"lambent/internal/rows"
	"lambent/source"
)

// A Source watches databases. The zero value is ready.
type Source struct {
	// MaxRetained is how many bytes of its log a database may keep for a trigger before that
	// is warned of, while its disk has room; 0: 1 GB.
	MaxRetained int64

	// Warn is told when there is something to be looked after, once; nil: nobody is.
	Warn func(t *lambent.Trigger, what string)

	running rows.Running[*watch]
}

var (
	_ source.Source   = (*Source)(nil)
	_ source.Preparer = (*Source)(nil)
	_ source.Gauge    = (*Source)(nil)
	_ source.Ordered  = (*Source)(nil)
)

// A position is how far a trigger has come.
type position struct {
	Since       time.Time     `json:"since"`       // the trigger's, for which the slot is
	System      string        `json:"system"`      // which cluster it is in
	Timeline    int32         `json:"timeline"`    // of its log; 0: not known
	Publication string        `json:"publication"` // which is read
	Snapshot    bool          `json:"snapshot,omitempty"`
	LSN         pglogrepl.LSN `json:"lsn"`              // where the last transaction ends that was published
	Commit      pglogrepl.LSN `json:"commit,omitempty"` // of one that was published in part
	Done        int           `json:"done,omitempty"`   // changes of it
}

// nameOf is that of a trigger's slot and of its publication.
func nameOf(t *lambent.Trigger) string {
	return "lambent_" + strings.ReplaceAll(t.ID, "-", "") + "_" + strconv.FormatInt(t.Since.UnixMilli(), 36)
}

// Batch implements source.Ordered: as many at a time as AWS's streams of tables have.
func (*Source) Batch() lambent.Batch { return lambent.Batch{Size: 100, Parallel: 8} }

// Check implements source.Source: it asks the database.
func (*Source) Check(t lambent.Trigger) error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout+5*time.Second)
	defer cancel()
	d := t.Database
	conn, err := connect(ctx, d)
	if err != nil {
		return err
	}
	defer hang(conn)
	if _, _, err := checked(ctx, conn, &t); err != nil {
		return explain(d, err)
	}
	return nil
}

// checked returns a trigger's tables and the name of its publication.
func checked(ctx context.Context, conn *pgconn.PgConn, t *lambent.Trigger) ([]table, string, error) {
	s, err := serverOf(ctx, conn)
	if err != nil {
		return nil, "", err
	}
	if err := s.check(); err != nil {
		return nil, "", err
	}
	tables, err := tablesOf(ctx, conn, &s, t.Database)
	if err != nil {
		return nil, "", err
	}
	publication, err := publicationOf(ctx, conn, &s, t.Database, tables, nameOf(t))
	return tables, publication, err
}

// Prepare implements source.Preparer: from when it returns, what is committed is kept
// for the trigger.
func (*Source) Prepare(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	d := t.Database
	conn, err := connect(ctx, d)
	if err != nil {
		return err
	}
	defer hang(conn)
	tables, publication, err := checked(ctx, conn, &t)
	if err != nil {
		return explain(d, err)
	}
	if publication == nameOf(&t) {
		if err := publish(ctx, conn, &t, tables); err != nil {
			return explain(d, err)
		}
	}
	log, err := connectReplication(ctx, d)
	if err != nil {
		return err
	}
	defer hang(log)
	system, err := pglogrepl.IdentifySystem(ctx, log)
	if err != nil {
		return explain(d, err)
	}
	at := position{Since: t.Since, System: system.SystemID, Timeline: system.Timeline, Publication: publication, Snapshot: d.Snapshot, LSN: system.XLogPos}
	if !d.Snapshot { // its slot begins with it
		slot, err := createSlot(ctx, conn, log, &t, "NOEXPORT_SNAPSHOT")
		if err != nil {
			return explain(d, err)
		}
		if at.LSN, err = pglogrepl.ParseLSN(slot.ConsistentPoint); err != nil {
			return explain(d, err)
		}
	}
	b, err := json.Marshal(at)
	if err != nil {
		return err
	}
	return sink.SetPosition(ctx, b)
}

// Forget implements source.Preparer.
func (*Source) Forget(ctx context.Context, t lambent.Trigger) error {
	d, name := t.Database, nameOf(&t)
	left := func(err error) error {
		e := explain(d, err)
		return lambent.Errorf(lambent.KindOf(e), "postgres", "the slot and the publication %s of trigger %s are left, and have the log kept: %w. "+
			"To remove them by hand: SELECT pg_drop_replication_slot('%s'); DROP PUBLICATION IF EXISTS %s", name, t.ID, e, name, name)
	}
	conn, err := connect(ctx, d)
	if err != nil {
		return left(err)
	}
	defer hang(conn)
	if err := dropSlot(ctx, conn, name); err != nil {
		return left(err)
	}
	if _, err := ask(ctx, conn, "DROP PUBLICATION IF EXISTS "+name); err != nil {
		return left(err)
	}
	return nil
}

// Lag implements source.Gauge.
func (s *Source) Lag(t lambent.Trigger) (source.Lag, bool) {
	if w, ok := s.running.Of(t.ID); ok {
		return w.now()
	}
	return source.Lag{}, false
}

// Run implements source.Source.
func (s *Source) Run(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	w := &watch{src: s, t: &t, d: t.Database, sink: sink, relations: map[uint32]*relation{}, types: map[uint32]form{}}
	if err := rows.ReadPosition(ctx, "postgres", &t, sink, &w.from); err != nil {
		return err
	}
	defer s.running.Enter(t.ID, w)()
	if err := w.run(ctx); err != nil && ctx.Err() == nil {
		return explain(w.d, err)
	}
	return nil
}

// lost is the error of a trigger that cannot go on where it was.
func (w *watch) lost(why string) error { return rows.Lost("postgres", w.t, why) }
