package mysql

import (
	"context"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"lambent"
)

// lockAll is SQL that keeps tables from being written to.
func lockAll(tables []table) string {
	var locks []string
	for i := range tables {
		locks = append(locks, tables[i].sql()+" READ")
	}
	return "LOCK TABLES " + strings.Join(locks, ", ")
}

// freeze begins a transaction that sees the tables as they are now, and returns the
// GTIDs of what it sees.
func (w *watch) freeze(ctx context.Context, tables []table) (string, error) {
	const begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"
	limit := "max_execution_time"
	if w.from.MariaDB {
		limit = "max_statement_time"
	}
	for _, sql := range []string{"SET SESSION " + limit + " = 0", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"} {
		if _, err := ask(w.sql, sql); err != nil {
			return "", err
		}
	}
	if w.from.MariaDB { // it knows where in its log a snapshot is
		if _, err := ask(w.sql, begin); err != nil {
			return "", err
		}
		r, err := ask(w.sql, "SHOW STATUS WHERE Variable_name IN ('binlog_snapshot_file', 'binlog_snapshot_position')")
		if err != nil {
			return "", err
		}
		at := map[string]string{}
		for _, v := range r {
			at[strings.ToLower(v[0])] = v[1]
		}
		gtids, err := ask(w.sql, "SELECT BINLOG_GTID_POS(?, ?), BINLOG_GTID_POS(?, ?) IS NULL", at["binlog_snapshot_file"], at["binlog_snapshot_position"], at["binlog_snapshot_file"], at["binlog_snapshot_position"])
		if err != nil {
			return "", err
		}
		if gtids[0][1] != "0" {
			return "", lambent.Errorf(lambent.Internal, "mysql", "MariaDB does not say where in its log the snapshot is: %v", at)
		}
		return gtids[0][0], nil
	}
	// While nobody writes to the tables, what MySQL says that it has is what the snapshot has
	// of them.
	lock, err := w.config.connect(ctx)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := ask(lock, lockAll(tables)); codeOf(err) == mysql.ER_LOCK_WAIT_TIMEOUT {
		return "", lambent.Errorf(lambent.Unavailable, "mysql", "a transaction that has changed one of the tables stays open, and a snapshot cannot begin: see SHOW PROCESSLIST for whose it is, and have it end")
	} else if err != nil {
		return "", err
	}
	if _, err := ask(w.sql, begin); err != nil {
		return "", err
	}
	return w.server.gtids(w.sql)
}

// snapshot publishes the rows that there are, and then that the log goes on behind them.
// If it is cut off it begins anew; rows that are as they were have the same ids.
func (w *watch) snapshot(ctx context.Context) error {
	tables, err := tablesOf(w.sql, w.server, w.d)
	if err != nil {
		return err
	}
	from := w.from
	if from.GTIDs, err = w.freeze(ctx, tables); err != nil {
		return err
	}
	index := 0
	from.Time = time.Now()
	for i := range tables {
		if !w.server.names() {
			w.know(tables[i].Table, tables[i].columns)
		}
		if err := w.readTable(ctx, &tables[i], from, &index); err != nil {
			return err
		}
	}
	if _, err := ask(w.sql, "COMMIT"); err != nil {
		return err
	}
	from.Snapshot, from.Tables = false, w.tables
	w.from = from
	return w.out.Put(ctx, nil, from, nil)
}

// readTable publishes the rows of a table.
func (w *watch) readTable(ctx context.Context, t *table, at position, index *int) error {
	r := &relation{Table: t.Table}
	var values []string
	for i := range t.columns {
		c := &t.columns[i]
		if c.Hidden {
			continue
		}
		value, form := c.asked()
		values = append(values, value)
		r.columns = append(r.columns, field{c.Name, form})
		if c.Key {
			r.keys = append(r.keys, c.Name)
		}
	}
	row := make([]any, len(values))
	each := func(told []mysql.FieldValue) error {
		for i := range told {
			row[i] = told[i].Value()
		}
		c := w.change(r, "insert", nil, &image{values: row})
		c.Position, c.Index, c.Committed = at.GTIDs, *index, at.Time
		*index++
		return w.out.Put(ctx, c, at, nil)
	}
	return safely(func() error {
		var r mysql.Result
		defer r.Close()
		return w.sql.ExecuteSelectStreaming("SELECT "+strings.Join(values, ", ")+" FROM "+t.sql(), &r, each, nil)
	})
}

// asked is what a column is asked for as, so that nothing of it is lost in MySQL's text,
// and the form of that.
func (c *column) asked() (sql string, form form) {
	name := quote(c.Name)
	switch c.Type {
	case "float":
		return name + " + 0e0", single
	case "double":
		return name, float
	case "bit":
		return name + " + 0", number
	case "timestamp":
		return name, timestamp
	case "datetime":
		return name, datetime
	case "set":
		return name, set(nil)
	case "tinyint", "smallint", "mediumint", "int", "bigint", "year":
		return name, number
	}
	switch {
	case c.JSON:
		return name, document
	case c.Charset != "" || texts[c.Type]:
		return name, text
	}
	return name, blob
}

// texts are types that are told as text and have no character set.
var texts = map[string]bool{"decimal": true, "date": true, "time": true, "inet4": true, "inet6": true, "uuid": true}
