// Package rows makes events of changes of rows, whatever the database, and publishes
// them: in the order of their commits, many at a time, and again until they are taken.
package rows

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"time"

	"lambent"
	"lambent/internal/jsonquote"
)

// A Column is a value of a row.
type Column struct {
	Name  string
	Value []byte // as JSON
}

// A Change is of one row, or a table that lost all of its rows.
type Change struct {
	Operation     string // of [lambent.DatabaseOperations]
	Schema, Table string
	Key           []Column // of the row's primary key, or what else identifies it; nil: nothing does
	Old, New      []Column // nil: there is none, or it is not known
	Unchanged     []string // columns whose values are not in New, as they were and the database did not tell them
	Position      string   // of its transaction's commit in the database's log
	Index         int      // in the transaction, from 0
	Transaction   string   // the database's name for it; empty: a row of a snapshot
	Committed     time.Time

	omitted []string // columns that would make it too large
}

var eventTypes = map[string]string{
	"insert": lambent.EventRowInserted, "update": lambent.EventRowUpdated, "delete": lambent.EventRowDeleted, "truncate": lambent.EventTableTruncated,
}

// event is the change as an event of a trigger. A change has one id, whenever and however
// often it is read; so has a row of a snapshot, as long as it is as it was.
func (c *Change) event(t *lambent.Trigger) lambent.Event {
	subject := c.Schema + "." + c.Table
	e := lambent.Event{
		Source: "/triggers/" + t.ID, Type: eventTypes[c.Operation], Subject: subject, Time: c.Committed.UTC(),
		DataContentType: "application/json", Data: c.data(), Extensions: map[string]string{"partitionkey": partitionKey(subject, c.Key)},
	}
	if shape := t.Database.Shape; shape != "" {
		e.Extensions[lambent.RowShape] = shape
	}
	name := t.ID + " " + c.Position + " " + strconv.Itoa(c.Index)
	if c.Transaction == "" {
		row := sha256.Sum256(object(nil, c.New))
		name = t.ID + " snapshot " + strconv.FormatInt(t.Since.UnixNano(), 36) + " " + subject + " " + hex.EncodeToString(row[:])
		if c.Key == nil { // there may be others like it
			name += " " + strconv.Itoa(c.Index)
		}
	}
	e.ID = lambent.IDOf(name)
	return e
}

// data is what [lambent.EventRowInserted] and the others have.
func (c *Change) data() []byte {
	size := 300
	for _, row := range [][]Column{c.Old, c.New} {
		for i := range row {
			size += len(row[i].Name) + len(row[i].Value) + 4
		}
	}
	b := make([]byte, 0, size)
	b = append(b, `{"operation":`...)
	b = jsonquote.Append(b, c.Operation)
	b = append(b, `,"schema":`...)
	b = jsonquote.Append(b, c.Schema)
	b = append(b, `,"table":`...)
	b = jsonquote.Append(b, c.Table)
	b = object(append(b, `,"key":`...), c.Key)
	b = object(append(b, `,"old":`...), c.Old)
	b = object(append(b, `,"new":`...), c.New)
	b = names(b, "unchanged", c.Unchanged)
	b = names(b, "omitted", c.omitted)
	b = append(b, `,"position":`...)
	b = jsonquote.Append(b, c.Position)
	if c.Transaction == "" {
		b = append(b, `,"snapshot":true`...)
	} else {
		b = strconv.AppendInt(append(b, `,"index":`...), int64(c.Index), 10)
		b = append(b, `,"transaction":`...)
		b = jsonquote.Append(b, c.Transaction)
		b = append(b, `,"committed":"`...)
		b = append(c.Committed.UTC().AppendFormat(b, time.RFC3339Nano), '"')
	}
	return append(b, '}')
}

// object appends a row; null: there is none.
func object(b []byte, row []Column) []byte {
	if row == nil {
		return append(b, "null"...)
	}
	b = append(b, '{')
	for i := range row {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(jsonquote.Append(b, row[i].Name), ':')
		b = append(b, row[i].Value...)
	}
	return append(b, '}')
}

func names(b []byte, field string, columns []string) []byte {
	if len(columns) == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), field...), `":[`...)
	for i, name := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = jsonquote.Append(b, name)
	}
	return append(b, ']')
}

// maxPartitionKey is how long one may be as it is.
const maxPartitionKey = 512

// partitionKey is the same for all changes of a row, and no other's.
func partitionKey(subject string, key []Column) string {
	s := subject
	for i := range key {
		v := key[i].Value
		if len(v) > 1 && v[0] == '"' {
			v = v[1 : len(v)-1]
		}
		s += "/" + url.PathEscape(string(v))
	}
	if len(s) > maxPartitionKey {
		h := sha256.Sum256([]byte(s))
		s = subject + "/" + hex.EncodeToString(h[:])
	}
	return s
}

// large is how long a value is that is left out of an event first.
const large = 8 << 10

// shrink leaves more out of a change that is too large, and reports whether there was
// something.
func (c *Change) shrink() bool {
	before := len(c.omitted)
	omit := func(row []Column, which func(*Column) bool) []Column {
		return slices.DeleteFunc(slices.Clone(row), func(col Column) bool {
			if !which(&col) {
				return false
			}
			if !slices.Contains(c.omitted, col.Name) {
				c.omitted = append(c.omitted, col.Name)
			}
			return true
		})
	}
	for _, which := range []func(*Column) bool{
		func(col *Column) bool { return len(col.Value) > large },
		func(col *Column) bool {
			return !slices.ContainsFunc(c.Key, func(k Column) bool { return k.Name == col.Name })
		},
	} {
		c.Old, c.New = omit(c.Old, which), omit(c.New, which)
		if len(c.omitted) > before {
			return true
		}
	}
	return false
}
