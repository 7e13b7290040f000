package postgres

import (
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pglogrepl"

	"lambent/internal/rows"
)

// A relation is a table as it was when the changes were made that are told now.
type relation struct {
	rows.Table
	columns []field
	keys    []string // columns that identify a row
	wanted  bool
}

// A field is a column of a table.
type field struct {
	name string
	form form
	key  bool // it is told of the row before
}

// relate takes in what is told of a table, which is told again after each change of it.
func (w *watch) relate(ctx context.Context, m *pglogrepl.RelationMessage) error {
	r := &relation{Table: rows.Table{Schema: m.Namespace, Name: m.RelationName}}
	// What our own publication tells is wanted, whatever its name is by now.
	r.wanted = w.from.Publication == nameOf(w.t) || slices.ContainsFunc(w.d.Tables, func(name string) bool { return rows.ParseTable(name, "public") == r.Table })
	var types []uint32
	for _, c := range m.Columns {
		types = append(types, c.DataType)
	}
	if err := w.learn(ctx, types); err != nil {
		return err
	}
	for _, c := range m.Columns {
		r.columns = append(r.columns, field{c.Name, w.types[c.DataType], c.Flags&1 != 0})
		if c.Flags&1 != 0 {
			r.keys = append(r.keys, c.Name)
		}
	}
	if m.ReplicaIdentity == 'f' || m.ReplicaIdentity == 'n' { // the key is not what is told
		names, err := w.primaryKey(ctx, strconv.FormatUint(uint64(m.RelationID), 10))
		if err != nil {
			return err
		}
		r.keys = nil
		for i := range r.columns {
			if slices.Contains(names, r.columns[i].name) {
				r.keys = append(r.keys, r.columns[i].name)
			}
		}
	}
	w.relations[m.RelationID] = r
	return nil
}

// primaryKey is the columns of a table's, by its oid.
func (w *watch) primaryKey(ctx context.Context, table string) ([]string, error) {
	return column(ask(ctx, w.sql, `SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
		WHERE i.indrelid = $1::oid AND i.indisprimary`, table))
}

// learn finds the forms of types.
func (w *watch) learn(ctx context.Context, types []uint32) error {
	for _, oid := range types {
		if w.types[oid] != nil {
			continue
		}
		f, err := w.formOf(ctx, oid, 0)
		if err != nil {
			return err
		}
		w.types[oid] = f
	}
	return nil
}

// formOf asks the database what a type is that is not among forms. One that is no more
// is told as text.
func (w *watch) formOf(ctx context.Context, oid uint32, depth int) (form, error) {
	if f := forms[oid]; f != nil {
		return f, nil
	}
	const deepest = 10 // domains of domains
	rows, err := ask(ctx, w.sql, `SELECT t.typbasetype::oid, CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END::oid, coalesce(e.typdelim, ',')::text
		FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem WHERE t.oid = $1::oid`, strconv.FormatUint(uint64(oid), 10))
	switch {
	case err != nil:
		return nil, err
	case len(rows) == 0 || depth == deepest:
		return text, nil
	}
	base, _ := strconv.ParseUint(rows[0][0], 10, 32)
	element, _ := strconv.ParseUint(rows[0][1], 10, 32)
	switch {
	case base != 0:
		return w.formOf(ctx, uint32(base), depth+1)
	case element != 0:
		f, err := w.formOf(ctx, uint32(element), depth+1)
		if err != nil {
			return nil, err
		}
		return array(f, rows[0][2][0]), nil
	}
	return text, nil
}

// row is what is told of one, the key's columns and those that are wanted. those is
// which columns are told: key says that others than the key's are not. before is what
// values are that have stayed as they were; nil: that is not known.
func (w *watch) row(r *relation, t *pglogrepl.TupleData, key bool, before []rows.Column) (row []rows.Column, unchanged []string) {
	row = make([]rows.Column, 0, len(t.Columns))
	size := 0
	for _, c := range t.Columns {
		size += len(c.Data) + len(c.Data)/8 + 4
	}
	buf := make([]byte, 0, size) // of all values
	for i, c := range t.Columns {
		if i >= len(r.columns) || key && !r.columns[i].key {
			continue
		}
		name, from := r.columns[i].name, len(buf)
		switch c.DataType {
		case pglogrepl.TupleDataTypeNull:
			buf = append(buf, "null"...)
		case pglogrepl.TupleDataTypeToast:
			if was, ok := rows.Find(before, name); ok {
				row = append(row, was)
			} else {
				unchanged = append(unchanged, name)
			}
			continue
		default:
			buf = r.columns[i].form(buf, c.Data)
		}
		row = append(row, rows.Column{Name: name, Value: buf[from:len(buf):len(buf)]})
	}
	return row, unchanged
}

// change makes a change of what is told: the row before and the one after.
func (w *watch) change(r *relation, operation string, before *pglogrepl.TupleData, key bool, after *pglogrepl.TupleData) *rows.Change {
	c := &rows.Change{Operation: operation, Schema: r.Schema, Table: r.Name}
	if before != nil {
		c.Old, _ = w.row(r, before, key, nil)
	}
	if after != nil {
		c.New, c.Unchanged = w.row(r, after, false, c.Old)
	}
	c.Identify(r.keys)
	c.Narrow(w.d.Columns)
	return c
}
