package mysql

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"lambent/internal/rows"
)

// A relation is a table as it was when the changes were made that are told now.
type relation struct {
	rows.Table
	columns []field
	keys    []string // columns of its primary key
}

// A field is a column of a table.
type field struct {
	name string
	form form // nil: it is hidden
}

// relate finds what a table was that the log tells a change of. It is told again by
// another number after each change of the table.
func (w *watch) relate(m *replication.TableMapEvent) (*relation, error) {
	if r := w.relations[m.TableID]; r != nil {
		return r, nil
	}
	r := &relation{Table: rows.Table{Schema: string(m.Schema), Name: string(m.Table)}}
	columns, err := w.columnsOf(r.Table, m)
	if err != nil {
		return nil, err
	}
	unsigned, collations, enumCollations := m.UnsignedMap(), m.CollationMap(), m.EnumSetCollationMap()
	enums, sets := m.EnumStrValueMap(), m.SetStrValueMap()
	names := m.ColumnNameString()
	for i := range int(m.ColumnCount) {
		t := trait{kind: kindOf(m, i), size: int(m.ColumnMeta[i])}
		name := "@" + strconv.Itoa(i+1)
		c := columnAt(columns, names, i)
		if c != nil {
			t.learn(c)
			name = c.Name
		}
		if names != nil {
			name = names[i]
		}
		if unsigned != nil {
			t.unsigned = unsigned[i]
		}
		if id, ok := collations[i]; ok {
			t.charset = w.charsets[id]
		}
		if names := slices.Concat(enums[i], sets[i]); names != nil {
			t.names = decodeAll(names, w.charsets[enumCollations[i]])
		}
		f := field{name, t.form()}
		if c != nil && c.Hidden || c == nil && strings.HasPrefix(name, hashPrefix) {
			f.form = nil
		}
		r.columns = append(r.columns, f)
		if slices.Contains(m.PrimaryKey, uint64(i)) || names == nil && i < len(columns) && columns[i].Key {
			r.keys = append(r.keys, name)
		}
	}
	w.relations[m.TableID] = r
	return r, nil
}

// columnAt is what the catalog says of a column: by its name, if the log has that, or by
// its place.
func columnAt(columns []column, names []string, i int) *column {
	if names != nil {
		i = slices.IndexFunc(columns, func(c column) bool { return c.Name == names[i] })
	}
	if i < 0 || i >= len(columns) {
		return nil
	}
	return &columns[i]
}

// columnsOf is what is known of a table's columns beside what the log says: as they are
// by now, or as they were known before, whichever the log can mean; nil: neither.
func (w *watch) columnsOf(t rows.Table, m *replication.TableMapEvent) ([]column, error) {
	known := w.known[t.String()]
	if known.fresh && (m.ColumnName != nil || fits(known.columns, m)) {
		return known.columns, nil
	}
	now, err := columnsOf(w.sql, w.from.MariaDB, t)
	if err != nil {
		return nil, err
	}
	switch {
	case m.ColumnName != nil || fits(now, m):
		w.know(t, now)
		return now, nil
	case fits(known.columns, m):
		return known.columns, nil
	}
	return nil, nil
}

// A knowledge is what is known of a table's columns.
type knowledge struct {
	columns []column
	fresh   bool // no table was changed since, as far as the log was read
}

// know keeps what a table's columns are. What the position has of them does not change,
// as it is written by others.
func (w *watch) know(t rows.Table, columns []column) {
	w.known[t.String()] = knowledge{columns, true}
	w.tables = map[string][]column{}
	for name, k := range w.known {
		w.tables[name] = k.columns
	}
}

// forget has columns asked for again, as a table was changed.
func (w *watch) forget() {
	clear(w.relations)
	for name, k := range w.known {
		w.known[name] = knowledge{k.columns, false}
	}
}

// fits reports whether the log can mean these columns.
func fits(columns []column, m *replication.TableMapEvent) bool {
	if columns == nil || len(columns) != int(m.ColumnCount) {
		return false
	}
	for i := range columns {
		c, kind := &columns[i], kindOf(m, i)
		want, ok := kinds[c.Type]
		if !ok { // nobody knows them all
			continue
		}
		if !slices.Contains(want, kind) {
			return false
		}
		switch kind {
		case mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING:
			if int(m.ColumnMeta[i]) != c.Bytes {
				return false
			}
		case mysql.MYSQL_TYPE_STRING:
			if lengthOf(int(m.ColumnMeta[i])) != c.Bytes {
				return false
			}
		case mysql.MYSQL_TYPE_NEWDECIMAL:
			if d := strconv.Itoa(int(m.ColumnMeta[i]>>8)) + "," + strconv.Itoa(int(m.ColumnMeta[i]&0xff)); !strings.Contains(c.Full, "("+d+")") {
				return false
			}
		}
	}
	return true
}

// kinds are the types of the log that those of the catalog are written as.
var kinds = map[string][]byte{
	"tinyint": {mysql.MYSQL_TYPE_TINY}, "smallint": {mysql.MYSQL_TYPE_SHORT}, "mediumint": {mysql.MYSQL_TYPE_INT24}, "int": {mysql.MYSQL_TYPE_LONG}, "bigint": {mysql.MYSQL_TYPE_LONGLONG},
	"decimal": {mysql.MYSQL_TYPE_NEWDECIMAL}, "float": {mysql.MYSQL_TYPE_FLOAT}, "double": {mysql.MYSQL_TYPE_DOUBLE}, "bit": {mysql.MYSQL_TYPE_BIT}, "year": {mysql.MYSQL_TYPE_YEAR},
	"date": {mysql.MYSQL_TYPE_DATE}, "time": {mysql.MYSQL_TYPE_TIME, mysql.MYSQL_TYPE_TIME2}, "datetime": {mysql.MYSQL_TYPE_DATETIME, mysql.MYSQL_TYPE_DATETIME2},
	"timestamp": {mysql.MYSQL_TYPE_TIMESTAMP, mysql.MYSQL_TYPE_TIMESTAMP2}, "char": {mysql.MYSQL_TYPE_STRING}, "binary": {mysql.MYSQL_TYPE_STRING},
	"varchar": {mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING}, "varbinary": {mysql.MYSQL_TYPE_VARCHAR, mysql.MYSQL_TYPE_VAR_STRING},
	"enum": {mysql.MYSQL_TYPE_ENUM}, "set": {mysql.MYSQL_TYPE_SET}, "json": {mysql.MYSQL_TYPE_JSON},
	"tinytext": {mysql.MYSQL_TYPE_BLOB}, "text": {mysql.MYSQL_TYPE_BLOB}, "mediumtext": {mysql.MYSQL_TYPE_BLOB}, "longtext": {mysql.MYSQL_TYPE_BLOB},
	"tinyblob": {mysql.MYSQL_TYPE_BLOB}, "blob": {mysql.MYSQL_TYPE_BLOB}, "mediumblob": {mysql.MYSQL_TYPE_BLOB}, "longblob": {mysql.MYSQL_TYPE_BLOB},
}

// kindOf is the type of a column in the log; those of enums and sets are written as text.
func kindOf(m *replication.TableMapEvent, i int) byte {
	if m.ColumnType[i] == mysql.MYSQL_TYPE_STRING {
		if real := byte(m.ColumnMeta[i] >> 8); real == mysql.MYSQL_TYPE_ENUM || real == mysql.MYSQL_TYPE_SET {
			return real
		}
	}
	return m.ColumnType[i]
}

// lengthOf is how many bytes CHAR and BINARY may have, of which two bits are stored in
// the type.
func lengthOf(meta int) int {
	kind := meta >> 8
	if kind&0x30 != 0x30 {
		return meta&0xff | (kind&0x30^0x30)<<4
	}
	return meta & 0xff
}

// row is what is told of one: those columns that are wanted. before is the row before,
// which has the values of those that are not told again.
func (w *watch) row(r *relation, values []any, skipped []int, before []rows.Column) (row []rows.Column, unchanged []string) {
	row = make([]rows.Column, 0, len(values))
	buf := make([]byte, 0, sizeOf(values)) // of all values
	for i, v := range values {
		if i >= len(r.columns) {
			break
		}
		name, form, from := r.columns[i].name, r.columns[i].form, len(buf)
		if form == nil {
			continue
		}
		if slices.Contains(skipped, i) {
			if was, ok := rows.Find(before, name); ok {
				row = append(row, was)
			} else {
				unchanged = append(unchanged, name)
			}
			continue
		}
		switch v.(type) {
		case nil:
			buf = append(buf, "null"...)
		case *replication.JsonDiff:
			w.doubtful("a session has had parts of JSON logged, with a binlog_row_value_options of its own: what it made of %s in %s was not told", name, r.Table)
			continue
		default:
			buf = form(buf, v)
		}
		row = append(row, rows.Column{Name: name, Value: buf[from:len(buf):len(buf)]})
	}
	return row, unchanged
}

// sizeOf is about how long values are as JSON.
func sizeOf(values []any) (size int) {
	for _, v := range values {
		switch v := v.(type) {
		case string:
			size += len(v) + len(v)/8 + 4
		case []byte:
			size += len(v) + len(v)/2 + 4
		default:
			size += 24
		}
	}
	return size
}

// An image is a row as it was told.
type image struct {
	values  []any
	skipped []int // columns that are not told
}

// change makes a change of what is told: the row before and the one after.
func (w *watch) change(r *relation, operation string, before, after *image) *rows.Change {
	c := &rows.Change{Operation: operation, Schema: r.Schema, Table: r.Name}
	if before != nil {
		c.Old, _ = w.row(r, before.values, before.skipped, nil)
	}
	if after != nil {
		c.New, c.Unchanged = w.row(r, after.values, after.skipped, c.Old)
	}
	c.Identify(r.keys)
	c.Narrow(w.d.Columns)
	return c
}
