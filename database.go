package lambent

import (
	"net/url"
	"slices"
	"strings"
)

// A Database is watched for changes of the rows of some tables, which are committed
// there by whomever.
type Database struct {
	// URL is postgres://USER:PASSWORD@HOST:PORT/DATABASE, or mysql:// or mariadb:// with the
	// same.
	// [Database.Masked] is what people may see of it.
	URL string `json:"url"`

	// Tables are SCHEMA.TABLE, or TABLE: of the schema public on PostgreSQL, and of the
	// URL's database on MySQL. Names are as they are kept, without quotes.
	Tables []string `json:"tables"`

	// Columns are those that events have, beside the key's; nil: all.
	Columns []string `json:"columns,omitempty"`

	// Operations are of which kinds changes are, out of [DatabaseOperations]; nil: all.
	Operations []string `json:"operations,omitempty"`

	// Snapshot begins with the rows that there are, each as one that is inserted.
	Snapshot bool `json:"snapshot,omitempty"`
}

// DatabaseOperations are what may happen to rows; the last to all of a table's.
var DatabaseOperations = []string{"insert", "update", "delete", "truncate"}

// Events of databases. Their subject is SCHEMA.TABLE, and the extension partitionkey
// that and the row's key. Their data, as internal/rows has it, is JSON:
//
//	{"operation": "update", "schema": "public", "table": "orders", "key": {"id": 17},
//	 "old": {...}, "new": {...}, "unchanged": ["note"], "omitted": ["scan"],
//	 "position": "0/16B3748", "index": 0, "transaction": "748",
//	 "committed": "2026-11-27T17:00:00.123456Z", "snapshot": true}
//
// position is an LSN of PostgreSQL's, or the GTID of MySQL's or MariaDB's transaction,
// which is what transaction is there, too. old is the row before, or what the database
// tells of it, and new the row after; they are null where there is none. unchanged names columns that are missing in new as their
// value has stayed and the database did not tell it, omitted those that are missing as
// the event would have been too large. They and snapshot are there where they say something.
const (
	EventRowInserted    = "dev.lambent.row.inserted"
	EventRowUpdated     = "dev.lambent.row.updated"
	EventRowDeleted     = "dev.lambent.row.deleted"
	EventTableTruncated = "dev.lambent.table.truncated"
)

// databaseEngines are the sources of databases, by the scheme of their URLs.
var databaseEngines = map[string]string{"postgres": "postgres", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}

// Engine is "postgres" or "mysql", and empty for a URL that is neither's.
func (d *Database) Engine() string {
	scheme, _, _ := strings.Cut(d.URL, ":")
	return databaseEngines[strings.ToLower(scheme)]
}

// Masked is the URL without its password.
func (d *Database) Masked() string { return maskedURL(d.URL, d.Engine()) }

// Validate checks what can be known without asking the database. Kinds: Invalid,
// Unsupported.
func (d *Database) Validate() error {
	const op = "database"
	refuse := func(format string, args ...any) error { return Errorf(Invalid, op, format, args...) }
	u, err := url.Parse(d.URL)
	switch {
	case err != nil || u.Scheme == "" || u.Opaque != "": // the error has all of it, with the password
		return refuse("the database's URL cannot be read: it is like postgres://USER:PASSWORD@HOST:5432/DATABASE, where %%40 stands for an @ in the password")
	case d.Engine() == "":
		return Errorf(Unsupported, op, "databases of %.32q cannot be watched: there are postgres://, mysql:// and mariadb://", u.Scheme)
	case u.Hostname() == "" || u.User.Username() == "" || strings.Trim(u.Path, "/") == "":
		return refuse("the database's URL lacks its user, its host or its database: it is like %s://USER:PASSWORD@HOST/DATABASE", u.Scheme)
	case len(d.Tables) == 0:
		return refuse("a database needs a table to be watched")
	}
	for _, l := range []struct {
		what  string
		names []string
	}{{"table", d.Tables}, {"column", d.Columns}, {"operation", d.Operations}} {
		for i, name := range l.names {
			switch {
			case name == "" || strings.ContainsAny(name, "\x00\"`"):
				return refuse("%q is not the name of a %s", name, l.what)
			case slices.Contains(l.names[:i], name):
				return refuse("%s %s is said twice", l.what, name)
			}
		}
	}
	for _, o := range d.Operations {
		if !slices.Contains(DatabaseOperations, o) {
			return refuse("%q is none of the operations %s", o, strings.Join(DatabaseOperations, ", "))
		}
	}
	if d.Snapshot && !d.Wants("insert") {
		return refuse("a snapshot is of inserts, which are not among the operations")
	}
	return nil
}

// Wants reports whether changes of that kind are to be events.
func (d *Database) Wants(operation string) bool {
	return len(d.Operations) == 0 || slices.Contains(d.Operations, operation)
}
