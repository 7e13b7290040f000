package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"lambent"
	"lambent/internal/rows"
	"lambent/source"
)

const (
	// tick is how often the server says that it is there, if it has nothing else to say.
	tick = time.Second

	// measureEvery is how often it is asked how far its log goes, and how often it is kept
	// how far that was read with nothing in it for us.
	measureEvery = 10 * time.Second

	// silence is after how long without a word the connection is taken for dead.
	silence = 45 * time.Second
)

// A watch is one run of a trigger: connections, and what was told on them.
type watch struct {
	t      *lambent.Trigger
	d      *lambent.Database
	sink   source.Sink
	from   position
	config *config
	sql    *conn
	server *server
	out    *rows.Publisher[position]

	relations map[uint64]*relation // by the log's number
	charsets  map[uint64]string    // by the number of a collation
	known     map[string]knowledge // of tables
	tables    map[string][]column  // the same, for positions

	mu       sync.Mutex // guards what follows
	lag      source.Lag
	lagKnown bool
	doubt    string                    // what may have been missed
	working  *rows.Publisher[position] // out, once there is one
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
	if lag.Warning == "" {
		lag.Warning = w.doubt
	}
	if w.lagKnown && lag.Warning == "" && !w.server.names() {
		lag.Warning = "the log does not name columns, and what was written around a change of a table may have wrong names: SET GLOBAL binlog_row_metadata = FULL"
	}
	return lag, w.lagKnown
}

// run watches until ctx ends, or one of the connections does.
func (w *watch) run(ctx context.Context) (err error) {
	if w.config, err = configuration(w.d); err != nil {
		return err
	}
	if w.sql, err = w.config.connect(ctx); err != nil {
		return err
	}
	defer w.sql.Close()
	if w.server, err = serverOf(w.sql); err != nil {
		return err
	}
	if err := w.server.check(); err != nil {
		return err
	}
	if err := w.checkPosition(); err != nil {
		return err
	}
	if w.charsets, err = charsetsOf(w.sql, w.server); err != nil {
		return err
	}
	w.known = map[string]knowledge{}
	for name, columns := range w.from.Tables {
		w.known[name] = knowledge{columns, true}
	}
	w.tables, w.from.File = w.from.Tables, "" // another server may have others
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

// checkPosition refuses a server that is not one on which the trigger can go on.
func (w *watch) checkPosition() error {
	if w.server.mariadb != w.from.MariaDB {
		return w.lost("another kind of server answers at " + w.d.Masked())
	}
	if w.from.MariaDB || w.from.Snapshot { // MariaDB says so itself
		return nil
	}
	r, err := ask(w.sql, "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed), GTID_SUBTRACT(@@GLOBAL.gtid_purged, ?)", w.from.GTIDs, w.from.GTIDs)
	switch {
	case err != nil:
		return err
	case r[0][0] != "1":
		return w.lost("the server at " + w.d.Masked() + " does not have all transactions to which the trigger has come")
	case r[0][1] != "":
		return w.lost("the server has thrown away log that the trigger had not read (" + r[0][1] + ")")
	}
	return nil
}

// charsetsOf are the character sets of collations, by the numbers that the log has of
// those.
func charsetsOf(c *conn, s *server) (map[uint64]string, error) {
	table := "COLLATIONS"
	if s.mariadb && s.version >= 101001 { // there are more of them
		table = "COLLATION_CHARACTER_SET_APPLICABILITY"
	}
	r, err := ask(c, "SELECT ID, CHARACTER_SET_NAME FROM information_schema."+table+" WHERE ID IS NOT NULL")
	if err != nil {
		return nil, err
	}
	all := map[uint64]string{}
	for _, v := range r {
		id, err := strconv.ParseUint(v[0], 10, 64)
		if err != nil {
			return nil, err
		}
		all[id] = v[1]
	}
	return all, nil
}

func (w *watch) tableOf(name string) rows.Table { return rows.ParseTable(name, w.config.database) }

// wants reports whether a table is watched.
func (w *watch) wants(t rows.Table) bool {
	return slices.ContainsFunc(w.d.Tables, func(name string) bool { return w.tableOf(name) == t })
}

// stream reads the log.
func (w *watch) stream(ctx context.Context) error {
	id, err := w.server.replicaID(w.sql, w.t)
	if err != nil {
		return err
	}
	l, err := w.config.openLog(ctx, w.from, id, replicaName(w.t), w.wants)
	if err != nil {
		return w.logError(err)
	}
	defer l.Close()
	s := &stream{watch: w, at: w.from, heard: time.Now()}
	if s.set, err = mysql.ParseGTIDSet(flavour(w.from.MariaDB), w.from.GTIDs); err != nil {
		return err
	}
	if err := s.measure(); err != nil {
		return err
	}
	next := time.Now().Add(tick)
	for {
		wait, cancel := context.WithDeadline(ctx, next)
		e, err := l.GetEvent(wait)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded):
		case err != nil:
			return w.logError(err)
		default:
			s.heard = time.Now()
			if err := l.parser.parse(e, func(e *replication.BinlogEvent) error { return s.told(ctx, e) }); err != nil {
				return s.unread(err)
			}
		}
		if now := time.Now(); !now.Before(next) {
			next = now.Add(tick)
			if err := s.beat(); err != nil {
				return err
			}
		}
	}
}

// A stream is what is known of the log while it is read.
type stream struct {
	*watch
	at       position      // behind what was read
	set      mysql.GTIDSet // of it
	ahead    bool          // set is ahead of at
	file     string        // which is read
	gtid     string        // of the transaction; empty: there is none
	alone    bool          // it is one statement, as far as is known
	index    int           // of the next change in the transaction
	skip     int           // changes of it that were published before
	when     time.Time
	heard    time.Time
	measured time.Time
}

// beat asks the server now and then, and keeps where we are.
func (s *stream) beat() error {
	if time.Since(s.heard) > silence {
		return lambent.Errorf(lambent.Unavailable, "mysql", "%s at %s has said nothing for %v", s.server, s.d.Masked(), silence)
	}
	if time.Since(s.measured) < measureEvery {
		return nil
	}
	if s.ahead && (s.gtid == "" || s.index == 0) { // what is not for us is done with, too
		s.out.Add(nil, s.here())
	}
	return s.measure()
}

// here is where the last transaction ends.
func (s *stream) here() position {
	if s.ahead {
		s.at.GTIDs, s.ahead = s.set.String(), false
	}
	s.at.Tables = s.tables
	return s.at
}

// measure asks how far the log goes, and for how long it is kept.
func (s *stream) measure() error {
	s.measured = time.Now()
	files, err := ask(s.sql, "SHOW BINARY LOGS")
	if err != nil {
		return err
	}
	at, idle := s.out.Reached()
	if idle {
		at = s.at
	}
	var lag source.Lag
	reading := false
	for _, f := range files {
		size, _ := strconv.ParseInt(f[1], 10, 64)
		if f[0] == at.File {
			reading = true
			size -= int64(at.Offset)
		}
		if reading {
			lag.Retained += max(0, size)
		}
	}
	behind, keeps := time.Since(at.Time), s.server.keeps()
	switch {
	case at.File != "" && !reading:
		lag.Warning = fmt.Sprintf("%s has thrown away log that the trigger has not read", s.server)
	case lag.Retained > 0 && keeps > 0 && behind > keeps/2:
		lag.Warning = fmt.Sprintf("the trigger is %v behind, and %s throws its log away after %v: SET GLOBAL binlog_expire_logs_seconds", behind.Round(time.Minute), s.server, keeps)
	}
	s.mu.Lock()
	s.lag, s.lagKnown = lag, true
	s.mu.Unlock()
	return nil
}

// keeps is for how long the server keeps its log; 0: for ever.
func (s *server) keeps() time.Duration {
	if n, err := strconv.ParseInt(s.variables["binlog_expire_logs_seconds"], 10, 64); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	days, _ := strconv.ParseFloat(s.variables["expire_logs_days"], 64)
	return time.Duration(days * 24 * float64(time.Hour))
}

// told takes in what the log has.
func (s *stream) told(ctx context.Context, e *replication.BinlogEvent) error {
	switch m := e.Event.(type) {
	case *replication.RotateEvent:
		s.file = string(m.NextLogName)
	case *replication.HeartbeatEvent: // the log has been read to its end
		if s.gtid == "" {
			s.at.File, s.at.Offset, s.at.Time = m.Filename, e.Header.LogPos, time.Now()
		}
	case *replication.FormatDescriptionEvent: // of another file, in which tables have other numbers
		clear(s.relations)
		s.gtid = "" // what a crash has cut off was not committed
	case mysql.BinlogGTIDEvent:
		return s.begin(ctx, m, e.Header)
	case *replication.QueryEvent:
		return s.statement(ctx, m, e.Header)
	case *replication.RowsEvent:
		return s.changed(ctx, m)
	case *replication.XIDEvent:
		return s.end(ctx, e.Header)
	case *replication.GenericEvent:
		if e.Header.EventType == replication.XA_PREPARE_LOG_EVENT {
			return s.end(ctx, e.Header)
		}
	}
	return nil
}

// unread is the error of what could not be taken in.
func (s *stream) unread(err error) error {
	if large, ok := errors.AsType[*tooLarge](err); ok {
		return lambent.Errorf(lambent.TooLarge, "mysql", "the transaction %s has %w: what it has changed is not told, nor what others have since. To begin anew, with what comes then: lambent trigger disable %s && lambent trigger enable %s",
			s.gtid, large, s.t.ID, s.t.ID)
	}
	return err
}

// begin takes in the beginning of a transaction, and the end of one before it that did
// not say so.
func (s *stream) begin(ctx context.Context, m mysql.BinlogGTIDEvent, h *replication.EventHeader) error {
	if err := s.end(ctx, nil); err != nil {
		return err
	}
	gtid, err := m.GTIDNext()
	if err != nil {
		return err
	}
	s.gtid, s.index, s.skip = gtid.String(), 0, 0
	if s.from.Commit == s.gtid {
		s.skip = s.from.Done
	}
	s.alone, s.when = true, time.Unix(int64(h.Timestamp), 0)
	switch m := m.(type) {
	case *replication.MariadbGTIDEvent:
		s.alone = m.IsStandalone()
	case *replication.GTIDEvent:
		s.committed(m)
	case *replication.GtidTaggedLogEvent:
		s.committed(&m.GTIDEvent)
	}
	return nil
}

// committed takes in when that was, which MySQL 8 says more exactly.
func (s *stream) committed(m *replication.GTIDEvent) {
	if at := m.OriginalCommitTime(); !at.IsZero() {
		s.when = at
	}
}

// end takes in the end of a transaction.
func (s *stream) end(ctx context.Context, h *replication.EventHeader) error {
	if s.gtid == "" {
		return nil
	}
	if err := s.set.Update(s.gtid); err != nil {
		return err
	}
	s.gtid, s.ahead = "", true
	s.at.Commit, s.at.Done, s.at.File, s.at.Time = "", 0, s.file, s.when
	if h != nil && h.LogPos > 0 {
		s.at.Offset = h.LogPos
	}
	if s.index > 0 {
		return s.add(ctx, nil, s.here())
	}
	return nil
}

// statement takes in SQL: where transactions begin and end, and what changes tables.
func (s *stream) statement(ctx context.Context, m *replication.QueryEvent, h *replication.EventHeader) error {
	words := words(string(m.Query))
	switch keywords(words) {
	case "BEGIN", "XA START":
		s.alone = false
		return nil
	case "COMMIT", "ROLLBACK", "XA COMMIT", "XA ROLLBACK":
		return s.end(ctx, h)
	}
	if !s.alone {
		s.suspect(words, string(m.Query))
		return nil
	}
	s.forget()
	if t, ok := truncated(words, string(m.Schema)); ok && s.wants(t) {
		if err := s.happened(ctx, &relation{Table: t}, "truncate", nil, nil); err != nil {
			return err
		}
	}
	return s.end(ctx, h)
}

// suspect warns of a statement that stands for changes of rows, of which nothing is known
// but that it names one of the tables: a session may have what is logged of it be that.
func (s *stream) suspect(words []string, sql string) {
	if len(words) == 0 || !slices.Contains([]string{"INSERT", "UPDATE", "DELETE", "REPLACE"}, strings.ToUpper(words[0])) {
		return
	}
	for _, name := range s.d.Tables {
		if t := s.tableOf(name); strings.Contains(sql, t.Name) {
			s.doubtful("a session has had a statement logged in place of the rows that it changed, with a binlog_format of its own: what it did to %s was not told", t)
		}
	}
}

// doubtful warns of what may have been missed.
func (w *watch) doubtful(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.doubt = fmt.Sprintf(format, args...)
}

// changed takes in changes of a table's rows.
func (s *stream) changed(ctx context.Context, m *replication.RowsEvent) error {
	if m.Rows == nil || !s.wants(rows.Table{Schema: string(m.Table.Schema), Name: string(m.Table.Table)}) {
		return nil
	}
	r, err := s.relate(m.Table)
	if err != nil {
		return err
	}
	operation, step := "update", 2 // in part, too, of which the library does not say so
	switch m.Type() {
	case replication.EnumRowsEventTypeInsert:
		operation, step = "insert", 1
	case replication.EnumRowsEventTypeDelete:
		operation, step = "delete", 1
	}
	for i := 0; i+step <= len(m.Rows); i += step {
		before, after := &image{m.Rows[i], m.SkippedColumns[i]}, &image{m.Rows[i+step-1], m.SkippedColumns[i+step-1]}
		switch operation {
		case "insert":
			before = nil
		case "delete":
			after = nil
		}
		if err := s.happened(ctx, r, operation, before, after); err != nil {
			return err
		}
	}
	return nil
}

// happened takes in a change of a table.
func (s *stream) happened(ctx context.Context, r *relation, operation string, before, after *image) error {
	s.index++
	if s.index <= s.skip || !s.d.Wants(operation) {
		return nil
	}
	at := s.here()
	c := s.change(r, operation, before, after)
	c.Position, c.Index, c.Transaction, c.Committed = s.gtid, s.index-1, s.gtid, s.when
	at.Commit, at.Done = s.gtid, s.index
	return s.add(ctx, c, at)
}

// add has a change published, and waits while there is no room for it.
func (s *stream) add(ctx context.Context, c *rows.Change, at position) error {
	return s.out.Put(ctx, c, at, func() error {
		s.heard = time.Now() // nobody has listened
		return s.beat()
	})
}
