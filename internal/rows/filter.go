package rows

import (
	"slices"
	"strings"
)

// A Table is one that a trigger names.
type Table struct{ Schema, Name string }

// ParseTable reads SCHEMA.TABLE, or TABLE in a schema.
func ParseTable(s, schema string) Table {
	if before, after, two := strings.Cut(s, "."); two {
		return Table{before, after}
	}
	return Table{schema, s}
}

// String is SCHEMA.TABLE.
func (t Table) String() string { return t.Schema + "." + t.Name }

// Find is a column of a row by its name; false: the row has none.
func Find(row []Column, name string) (Column, bool) {
	for i := range row {
		if row[i].Name == name {
			return row[i], true
		}
	}
	return Column{}, false
}

// Identify says which columns are the row's key: their values are those of the new row,
// or of the old where it is not told of the new.
func (c *Change) Identify(key []string) {
	for _, name := range key {
		col, ok := Find(c.New, name)
		if !ok {
			col, ok = Find(c.Old, name)
		}
		if ok {
			c.Key = append(c.Key, col)
		}
	}
}

// Narrow leaves those columns, beside the key's, that are among the names; none: all.
func (c *Change) Narrow(columns []string) {
	if len(columns) == 0 {
		return
	}
	other := func(name string) bool { return !slices.Contains(columns, name) }
	for _, row := range []*[]Column{&c.Old, &c.New} {
		if *row != nil {
			*row = slices.DeleteFunc(*row, func(c Column) bool { return other(c.Name) })
		}
	}
	c.Unchanged = slices.DeleteFunc(c.Unchanged, other)
}
