package postgres

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
)

// snapshot makes the slot, and publishes the rows that are there as of where it begins:
// what is told afterwards is all that comes behind them. If it is cut off it begins
// anew, with another slot; rows that are as they were have the same ids.
func (w *watch) snapshot(ctx context.Context) error {
	slot, err := createSlot(ctx, w.sql, w.log, w.t, "EXPORT_SNAPSHOT")
	if err != nil {
		return err
	}
	from := w.from
	if from.LSN, err = pglogrepl.ParseLSN(slot.ConsistentPoint); err != nil {
		return err
	}
	s, err := serverOf(ctx, w.sql)
	if err != nil {
		return err
	}
	tables, err := tablesOf(ctx, w.sql, &s, w.d)
	if err != nil {
		return err
	}
	if _, err := ask(ctx, w.sql, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	if _, err := ask(ctx, w.sql, "SET TRANSACTION SNAPSHOT "+literal(slot.SnapshotName)); err != nil {
		return err
	}
	index := 0
	now := time.Now()
	for i := range tables {
		if err := w.readTable(ctx, &tables[i], from, now, &index); err != nil {
			return err
		}
	}
	if _, err := ask(ctx, w.sql, "COMMIT"); err != nil {
		return err
	}
	from.Snapshot = false
	w.from = from
	return w.out.Put(ctx, nil, from, nil)
}

// readTable publishes the rows of a table.
func (w *watch) readTable(ctx context.Context, t *table, at position, now time.Time, index *int) error {
	oids, err := column(ask(ctx, w.sql, `SELECT $1::regclass::oid`, t.sql()))
	if err != nil {
		return err
	}
	keys, err := w.primaryKey(ctx, oids[0])
	if err != nil {
		return err
	}
	var columns []string
	for _, name := range t.columns {
		columns = append(columns, quote(name))
	}
	only := "ONLY "
	if t.kind == "p" {
		only = ""
	}
	query := "SELECT " + strings.Join(columns, ", ") + " FROM " + only + t.sql()

	// The types, of which questions are asked on the same connection, come first.
	described, err := w.sql.Prepare(ctx, "", query, nil)
	if err != nil {
		return err
	}
	var types []uint32
	for _, f := range described.Fields {
		types = append(types, f.DataTypeOID)
	}
	if err := w.learn(ctx, types); err != nil {
		return err
	}
	r := &relation{Table: t.Table, wanted: true}
	for i, name := range t.columns {
		r.columns = append(r.columns, field{name: name, form: w.types[types[i]]})
		if slices.Contains(keys, name) {
			r.keys = append(r.keys, name)
		}
	}
	results := w.sql.Exec(ctx, query) // as text
	defer results.Close()
	tuple := &pglogrepl.TupleData{}
	for results.NextResult() {
		reader := results.ResultReader()
		for reader.NextRow() {
			tuple.Columns = tuple.Columns[:0]
			for _, v := range reader.Values() {
				kind := uint8(pglogrepl.TupleDataTypeText)
				if v == nil {
					kind = pglogrepl.TupleDataTypeNull
				}
				tuple.Columns = append(tuple.Columns, &pglogrepl.TupleDataColumn{DataType: kind, Data: v})
			}
			c := w.change(r, "insert", nil, false, tuple)
			c.Position, c.Index, c.Committed = at.LSN.String(), *index, now
			*index++
			if err := w.out.Put(ctx, c, at, nil); err != nil {
				return err
			}
		}
	}
	return results.Close()
}
