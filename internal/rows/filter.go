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

// Select returns those columns of a row that are among the names; nil names all.
func Select(row []Column, columns []string) []Column {
	if row == nil || len(columns) == 0 {
		return row
	}
	return slices.DeleteFunc(row, func(c Column) bool { return !slices.Contains(columns, c.Name) })
}
