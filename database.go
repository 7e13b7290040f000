package lambent

import (
	"crypto/tls"
	"crypto/x509"
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

	// Shape is what functions of Lambda's get: empty is lambent's own, in which all is that
	// is known, and [ShapeDynamoDB] that of DynamoDB's streams.
	Shape string `json:"shape,omitempty"`

	Certificates // which have [Database.TLSMode] be the strictest, if the URL says nothing of it
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

// ShapeDynamoDB has a change of a row look like one of an item of DynamoDB's: its values are S,
// N, BOOL, NULL, L and M as their JSON is a text, a number and so on. It has no truncate.
const ShapeDynamoDB = "dynamodb"

// RowShape is the extension of such an event that says so.
const RowShape = "rowshape"

// A databaseEngine is what answers at URLs of a scheme.
type databaseEngine struct {
	name       string
	parameters []string // that URLs may have: others would have the server read files or run as somebody else
	mode       string   // the one that says of TLS

	// What it may say.
	lax       []string // no TLS, or some if whoever answers has it; the last is the default
	required  string   // TLS, with anybody
	authority string   // with a certificate of somebody who is trusted
	identity  string   // which is for the host, too
}

var (
	postgresEngine = &databaseEngine{"postgres", []string{"sslmode", "connect_timeout", "target_session_attrs"}, "sslmode", []string{"disable", "allow", "prefer"}, "require", "verify-ca", "verify-full"}
	mysqlEngine    = &databaseEngine{"mysql", []string{"ssl-mode"}, "ssl-mode", []string{"disabled", "preferred"}, "required", "verify_ca", "verify_identity"}

	databaseEngines = map[string]*databaseEngine{"postgres": postgresEngine, "postgresql": postgresEngine, "mysql": mysqlEngine, "mariadb": mysqlEngine}
)

// databaseFiles are parameters of databases' own clients that name files, which would be the
// server's, and what there is in their place.
var databaseFiles = map[string]string{"sslrootcert": "ca", "ssl-ca": "ca", "sslcert": "cert", "ssl-cert": "cert", "sslkey": "key", "ssl-key": "key"}

func (d *Database) engine() *databaseEngine {
	scheme, _, _ := strings.Cut(d.URL, ":")
	return databaseEngines[strings.ToLower(scheme)]
}

// Engine is "postgres" or "mysql", and empty for a URL that is neither's.
func (d *Database) Engine() string {
	if e := d.engine(); e != nil {
		return e.name
	}
	return ""
}

// TLSMode is how much is asked of TLS, in the words of the database's own clients: what a URL
// that is valid says, or what it leaves to be understood.
func (d *Database) TLSMode() string {
	e, mode := d.engine(), ""
	if u, err := url.Parse(d.URL); err == nil {
		mode = strings.ToLower(u.Query().Get(e.mode))
	}
	switch {
	case mode == "" && d.Certificates != (Certificates{}):
		return e.identity
	case mode == "":
		return e.lax[len(e.lax)-1]
	case mode == e.required && d.CA != "": // as PostgreSQL's clients have it
		return e.authority
	}
	return mode
}

// TLSConfig is for connections to one of the database's hosts; nil: they are without TLS.
func (d *Database) TLSConfig(host string) (*tls.Config, error) {
	e, mode := d.engine(), d.TLSMode()
	if mode == e.lax[0] {
		return nil, nil
	}
	c, err := d.Certificates.TLSConfig(host)
	if err != nil {
		return nil, err
	}
	c.InsecureSkipVerify = mode != e.identity
	if mode == e.authority {
		c.VerifyConnection = func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: c.RootCAs, Intermediates: x509.NewCertPool()}
			for _, cert := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			return err
		}
	}
	return c, nil
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
	case slices.Contains(strings.Split(u.Hostname(), ","), "") || u.User.Username() == "" || strings.Trim(u.Path, "/") == "":
		return refuse("the database's URL lacks its user, its host or its database: it is like %s://USER:PASSWORD@HOST/DATABASE", u.Scheme)
	case len(d.Tables) == 0:
		return refuse("a database needs a table to be watched")
	}
	if err := d.validateTLS(u.Query()); err != nil {
		return err
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
	switch {
	case d.Shape != "" && d.Shape != ShapeDynamoDB:
		return refuse("%.32q is no shape of changes: there is %s, and without one lambent's own", d.Shape, ShapeDynamoDB)
	case d.Shape != "" && slices.Contains(d.Operations, "truncate"):
		return refuse("changes of the shape %s have no truncate: leave it out of the operations", d.Shape)
	}
	if d.Snapshot && !d.Wants("insert") {
		return refuse("a snapshot is of inserts, which are not among the operations")
	}
	return nil
}

// validateTLS checks what a URL has behind its database, and the certificates.
func (d *Database) validateTLS(query url.Values) error {
	const op = "database"
	e, mode := d.engine(), d.TLSMode()
	for name := range query {
		flag, file := databaseFiles[name]
		switch {
		case name == "sslrootcert" && query.Get(name) == "system":
			return Errorf(Invalid, op, "the database's URL has sslrootcert=system: that is sslmode=verify-full here, which without a CA trusts whom the machine does")
		case file:
			return Errorf(Invalid, op, "the database's URL has %s, which names a file that the server would have to read: leave it out, and give what is in the file, by --%s FILE (in lambent.toml by ca, certificate and key)", name, flag).
				WithHint("lambent trigger add NAME --database %s --table %s --%s FILE", d.Masked(), d.Tables[0], flag)
		case !slices.Contains(e.parameters, name):
			return Errorf(Invalid, op, "the database's URL has the parameter %.32q: it may have %s", name, strings.Join(e.parameters, ", "))
		}
	}
	if modes := append(slices.Clone(e.lax), e.required, e.authority, e.identity); !slices.Contains(modes, mode) {
		return Errorf(Invalid, op, "the database's URL has the %s %.32q: there are %s", e.mode, mode, strings.Join(modes, ", "))
	}
	if slices.Contains(e.lax, mode) && d.Certificates != (Certificates{}) {
		return Errorf(Invalid, op, "certificates go with TLS, which %s=%s does not insist on: leave it out, or say %s, %s or %s", e.mode, mode, e.required, e.authority, e.identity)
	}
	return d.Certificates.validate(op)
}

// Wants reports whether changes of that kind are to be events.
func (d *Database) Wants(operation string) bool {
	if len(d.Operations) == 0 {
		return d.Shape == "" || operation != "truncate"
	}
	return slices.Contains(d.Operations, operation)
}
