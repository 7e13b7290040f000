// Package mysql turns changes of rows in MySQL and MariaDB into events, by the binary
// log: what the server writes of each commit for its replicas, in their order.
//
// For each trigger there is a connection of the trigger's own, as a replica has it. What
// it has come to is a position of GTIDs, transactions by their names, which hold on all
// servers that have them: a trigger goes on where it was after a failover. A transaction
// that was told in part is gone on with where that ended; what is told again has the
// same ids.
//
// The server keeps its log for a time, whoever has read it: nothing is lost while either
// side is down for less than that, and a trigger that comes later says so and ends.
//
// An event has the whole row before, and the whole row after. What the columns of a row
// are called the log says with binlog_row_metadata=FULL. Without that they are named as
// the server has them when it is asked, if those have the types that the log tells;
// or else as they were known before, and if those do not fit either by their places, as
// mysqlbinlog does: @1, @2. So rows that were written between two changes of a table,
// both of which were made before its log was read, may have names of after the second.
package mysql

import (
	"context"
	"encoding/json"
	"time"

	"lambent"
	"lambent/internal/rows"
	"lambent/source"
)

// A Source watches databases. The zero value is ready.
type Source struct{ running rows.Running[*watch] }

var (
	_ source.Source   = (*Source)(nil)
	_ source.Preparer = (*Source)(nil)
	_ source.Gauge    = (*Source)(nil)
	_ source.Ordered  = (*Source)(nil)
)

// A position is how far a trigger has come.
type position struct {
	Since    time.Time `json:"since"`   // the trigger's, for which it is
	MariaDB  bool      `json:"mariadb"` // whose GTIDs they are
	Snapshot bool      `json:"snapshot,omitempty"`
	GTIDs    string    `json:"gtids"`            // of all transactions that were published
	Commit   string    `json:"commit,omitempty"` // of one that was published in part
	Done     int       `json:"done,omitempty"`   // changes of it

	// When that was, and where it is in the log that is read now, to say how far behind it
	// is.
	Time   time.Time `json:"time,omitzero"`
	File   string    `json:"-"`
	Offset uint32    `json:"-"`

	// Tables are as they were known last, where the log does not say.
	Tables map[string][]column `json:"tables,omitempty"`
}

// Batch implements source.Ordered: as many at a time as AWS's streams of tables have.
func (*Source) Batch() lambent.Batch { return lambent.Batch{Size: 100, Parallel: 8} }

// Check implements source.Source: it asks the database, and begins to read its log.
func (*Source) Check(t lambent.Trigger) error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout+5*time.Second)
	defer cancel()
	_, err := examine(ctx, &t)
	return err
}

// Prepare implements source.Preparer: what is committed from when it returns is behind
// the position.
func (*Source) Prepare(ctx context.Context, t lambent.Trigger, sink source.Sink) error {
	at, err := examine(ctx, &t)
	if err != nil {
		return err
	}
	b, err := json.Marshal(at)
	if err != nil {
		return err
	}
	return sink.SetPosition(ctx, b)
}

// Forget implements source.Preparer: the server keeps nothing for a trigger.
func (*Source) Forget(context.Context, lambent.Trigger) error { return nil }

// examine refuses what cannot be watched, and returns where watching it would begin now.
func examine(ctx context.Context, t *lambent.Trigger) (at position, err error) {
	d := t.Database
	c, err := configuration(d)
	if err != nil {
		return at, err
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return at, explain(d, nil, err)
	}
	defer conn.Close()
	s, err := serverOf(conn)
	if err != nil {
		return at, explain(d, nil, err)
	}
	if err := s.check(); err != nil {
		return at, err
	}
	tables, err := tablesOf(conn, s, d)
	if err != nil {
		return at, explain(d, s, err)
	}
	if err := s.checkRights(conn, tables); err != nil {
		return at, explain(d, s, err)
	}
	at = position{Since: t.Since, MariaDB: s.mariadb, Snapshot: d.Snapshot, Time: time.Now()}
	if at.GTIDs, err = s.gtids(conn); err != nil {
		return at, explain(d, s, err)
	}
	if !s.names() {
		at.Tables = map[string][]column{}
		for i := range tables {
			at.Tables[tables[i].String()] = tables[i].columns
		}
	}
	if err := try(ctx, c, s, conn, t, at); err != nil {
		return at, explain(d, s, err)
	}
	return at, nil
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
	w := &watch{t: &t, d: t.Database, sink: sink, relations: map[uint64]*relation{}}
	if err := rows.ReadPosition(ctx, "mysql", &t, sink, &w.from); err != nil {
		return err
	}
	defer s.running.Enter(t.ID, w)()
	if err := w.run(ctx); err != nil && ctx.Err() == nil {
		return explain(w.d, w.server, err)
	}
	return nil
}

// lost is the error of a trigger that cannot go on where it was.
func (w *watch) lost(why string) error { return rows.Lost("mysql", w.t, why) }
