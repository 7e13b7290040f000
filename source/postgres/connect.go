package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"lambent"
	"lambent/source"
)

const connectTimeout = 10 * time.Second

// session is how values are written for us.
var session = map[string]string{
	"application_name": "lambent", "client_encoding": "UTF8", "TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "iso_8601",
	"extra_float_digits": "3", "bytea_output": "hex", "default_transaction_read_only": "off", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0",
}

// configuration reads a database's URL. Nothing of the server's environment or home
// directory stands in for what it does not say.
func configuration(d *lambent.Database) (*pgconn.Config, error) {
	refuse := func(format string, args ...any) (*pgconn.Config, error) {
		return nil, lambent.Errorf(lambent.Invalid, "postgres", format, args...)
	}
	if err := d.Validate(); err != nil { // an earlier release may have kept it
		return nil, err
	}
	u, err := url.Parse(d.URL)
	if err != nil { // it has the password
		return refuse("the database's URL cannot be read")
	}
	if u.Port() == "" {
		u.Host += ":5432"
	}
	query := u.Query()
	if !query.Has("connect_timeout") {
		query.Set("connect_timeout", "10")
	}
	query.Set("sslmode", d.TLSMode())
	for _, file := range []string{"sslrootcert", "sslcert", "sslkey"} {
		query.Set(file, "")
	}
	u.RawQuery = query.Encode()
	cfg, err := pgconn.ParseConfig(u.String())
	if err != nil {
		return refuse("the database's URL cannot be used: %s", strings.ReplaceAll(line(err), u.String(), d.Masked()))
	}
	if cfg.TLSConfig, err = security(d, cfg.Host, cfg.TLSConfig); err != nil {
		return nil, err
	}
	for _, f := range cfg.Fallbacks { // to other hosts, and without TLS where that need not be
		if f.TLSConfig, err = security(d, f.Host, f.TLSConfig); err != nil {
			return nil, err
		}
	}
	cfg.Password, _ = u.User.Password()
	for name, value := range session {
		cfg.RuntimeParams[name] = value
	}
	delete(cfg.RuntimeParams, "options")
	return cfg, nil
}

// security is a database's own TLS for a host, in place of the client's; nil: without.
func security(d *lambent.Database, host string, clients *tls.Config) (*tls.Config, error) {
	if clients == nil {
		return nil, nil
	}
	return d.TLSConfig(host)
}

// connect opens a connection for SQL.
func connect(ctx context.Context, d *lambent.Database) (*pgconn.PgConn, error) {
	cfg, err := configuration(d)
	if err != nil {
		return nil, err
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, explain(d, err)
	}
	return conn, nil
}

// connectReplication opens one for the log.
func connectReplication(ctx context.Context, d *lambent.Database) (*pgconn.PgConn, error) {
	cfg, err := configuration(d)
	if err != nil {
		return nil, err
	}
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, explain(d, err)
	}
	return conn, nil
}

// hang closes a connection without waiting long for the other side.
func hang(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// ask runs a statement with arguments, and returns its rows as text; NULL is empty.
func ask(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) ([][]string, error) {
	values := make([][]byte, len(args))
	for i, arg := range args {
		values[i] = []byte(arg)
	}
	r := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	rows := make([][]string, len(r.Rows))
	for i, row := range r.Rows {
		for _, v := range row {
			rows[i] = append(rows[i], string(v))
		}
	}
	return rows, r.Err
}

// column is the first of the rows that ask returns.
func column(rows [][]string, err error) ([]string, error) {
	values := make([]string, len(rows))
	for i, row := range rows {
		values[i] = row[0]
	}
	return values, err
}

// Codes of errors (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	codeNoRight        = "42501"
	codeUndefined      = "42704"
	codeInUse          = "55006"
	codeNotReady       = "55000" // object_not_in_prerequisite_state
	codeSlots          = "53400" // configuration_limit_exceeded
	codeConnections    = "53300"
	codePassword       = "28P01"
	codeAuthorization  = "28000"
	codeNoDatabase     = "3D000"
	codeMissingSegment = "58P01"
)

func codeOf(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// line is an error as one line.
func line(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Message
	}
	text := err.Error()
	if e, ok := errors.AsType[*pgconn.ConnectError](err); ok { // with TLS and without, often for the same reason
		text = strings.Join(slices.Compact(strings.Split(e.Unwrap().Error(), "\n")), "; ")
	}
	return strings.Join(strings.Fields(text), " ")
}

// explain is an error of PostgreSQL for people.
func explain(d *lambent.Database, err error) error {
	if _, ok := errors.AsType[*lambent.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return lambent.Errorf(lambent.Canceled, "postgres", "given up: %w", err)
	}
	where := "PostgreSQL at " + d.Masked()
	switch codeOf(err) {
	case codePassword, codeAuthorization, codeNoDatabase:
		return lambent.Errorf(lambent.Invalid, "postgres", "%s refuses the connection: %s", where, line(err))
	case codeConnections:
		return lambent.Errorf(lambent.Unavailable, "postgres", "%s has no room: %s", where, line(err)).
			WithHint("ALTER SYSTEM SET max_wal_senders = 20; -- and restart PostgreSQL")
	case codeNoRight:
		if strings.Contains(line(err), "walsender") || strings.Contains(line(err), "replication") {
			return noReplication(err, strings.Split(strings.TrimPrefix(d.Masked(), d.Engine()+"://"), ":")[0])
		}
		return lambent.Errorf(lambent.Invalid, "postgres", "%s does not allow it: %s", where, line(err))
	case "":
		return lambent.Errorf(lambent.Unavailable, "postgres", "%s does not answer: %s%s", where, line(err), source.Untrusted(err))
	}
	return lambent.Errorf(lambent.Unavailable, "postgres", "%s: %s (SQLSTATE %s)", where, line(err), codeOf(err))
}

func noReplication(err error, role string) error {
	why := ""
	if err != nil {
		why = ": " + line(err)
	}
	return lambent.Errorf(lambent.Invalid, "postgres", "the role %s may not read the log of changes%s. As a superuser, have it: ALTER ROLE %s REPLICATION", role, why, quote(role)).
		WithHint("psql -c 'ALTER ROLE %s REPLICATION'", quote(role))
}

// quote is a name in SQL.
func quote(names ...string) string {
	for i, name := range names {
		names[i] = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return strings.Join(names, ".")
}

// literal is a string in SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
