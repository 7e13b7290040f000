package databasetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Postgres is a PostgreSQL whose superuser is postgres, with the password "secret".
type Postgres struct {
	*process
	version *postgresVersion
}

// A postgresVersion is one that is installed.
type postgresVersion struct {
	bin    string                 // where its programs are; empty: it is not there
	initdb func() (string, error) // makes the data of a cluster that has never run, once
}

// debian is the newest that Debian has, and later one that has what Debian's has not yet.
var (
	debian = installed("/usr/lib/postgresql/*/bin/postgres")
	later  = installed("../../.venv/postgresql-17*/bin/postgres")
)

func installed(glob string) *postgresVersion {
	v := &postgresVersion{}
	if found, _ := filepath.Glob(glob); len(found) > 0 {
		slices.Sort(found)
		if path, err := filepath.Abs(found[len(found)-1]); err == nil {
			v.bin = filepath.Dir(path)
		}
	}
	v.initdb = sync.OnceValues(v.newCluster)
	return v
}

func (v *postgresVersion) newCluster() (string, error) {
	dir, err := directory()
	if err != nil {
		return "", err
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o644); err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	return data, run(command(dir, filepath.Join(v.bin, "initdb"), "-D", data, "-U", "postgres", "-N", "-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8"))
}

// cluster is a server with a copy of the data, and what else is to be in its directory.
func (v *postgresVersion) cluster(files []string, settings ...string) (*process, error) {
	template, err := v.initdb()
	if err != nil {
		return nil, err
	}
	data, err := copyOf(template)
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		if err := os.WriteFile(filepath.Join(data, name), nil, 0o644); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &process{Port: port}
	p.start = func() (*exec.Cmd, error) {
		args := []string{"-D", data, "-p", fmt.Sprint(p.Port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "wal_level=logical",
			"-c", "max_replication_slots=40", "-c", "max_wal_senders=40", "-c", "log_min_messages=fatal"}
		for _, s := range settings {
			args = append(args, "-c", s)
		}
		return command(data, filepath.Join(v.bin, "postgres"), args...), nil
	}
	p.alive = func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, Postgres{p, v}.URL("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
	return p, nil
}

var sharedPostgres = sync.OnceValues(func() (*process, error) {
	p, err := debian.cluster(nil)
	return p, Share(p, err)
})

// SharedPostgres is a server for all of a package's tests, which is to have Main, or
// skips the test.
func SharedPostgres(t testing.TB) Postgres {
	t.Helper()
	debian.need(t)
	p, err := sharedPostgres()
	if err != nil {
		t.Fatal(err)
	}
	return Postgres{p, debian}
}

// NewPostgres is one of a test's own, with settings such as "wal_level=replica", or skips
// the test.
func NewPostgres(t testing.TB, settings ...string) Postgres {
	t.Helper()
	return debian.new(t, nil, settings)
}

// NewLaterPostgres is one of PostgreSQL 17, which keeps slots for standbys.
func NewLaterPostgres(t testing.TB, settings ...string) Postgres {
	t.Helper()
	return later.new(t, nil, settings)
}

// NewStandby is a standby of a server that was made by New, and has not been cut off from
// its first log. The slot by which it follows is called standby.
func (p Postgres) NewStandby(t testing.TB, settings ...string) Postgres {
	t.Helper()
	p.Exec(t, "postgres", `SELECT pg_create_physical_replication_slot('standby', true)`)
	follow := fmt.Sprintf("primary_conninfo=host=127.0.0.1 port=%d user=postgres password=secret dbname=postgres", p.Port)
	return p.version.new(t, []string{"standby.signal"}, append([]string{follow, "primary_slot_name=standby", "hot_standby_feedback=on"}, settings...))
}

func (v *postgresVersion) new(t testing.TB, files, settings []string) Postgres {
	t.Helper()
	v.need(t)
	p, err := v.cluster(files, settings...)
	own(t, p, err)
	return Postgres{p, v}
}

func (v *postgresVersion) need(t testing.TB) {
	t.Helper()
	switch {
	case v.bin != "":
	case v == later:
		missing(t, "there is no PostgreSQL 17: tools/setup.sh test")
	default:
		missing(t, "there is no PostgreSQL: apt-get install postgresql")
	}
}

// URL is that of a database, for the superuser.
func (p Postgres) URL(database string) string { return p.URLOf("postgres", database) }

// URLOf is for a role whose password is "secret".
func (p Postgres) URLOf(role, database string) string {
	return fmt.Sprintf("postgres://%s:secret@127.0.0.1:%d/%s", role, p.Port, database)
}

// Database makes a database for a test, with tables, and returns its name.
func (p Postgres) Database(t testing.TB, tables ...string) string {
	t.Helper()
	name := fmt.Sprintf("d%d", time.Now().UnixNano())
	p.Exec(t, "postgres", "CREATE DATABASE "+name)
	p.Exec(t, name, tables...)
	return name
}

// Exec runs statements, one after the other.
func (p Postgres) Exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	conn := p.Connect(t, database)
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%.200s: %v", s, err)
		}
	}
}

// Connect opens a connection, which ends with the test.
func (p Postgres) Connect(t testing.TB, database string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), p.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// Session returns what runs statements in one session, which ends with the test.
func (p Postgres) Session(t testing.TB, database string) (exec func(sql string)) {
	t.Helper()
	return session(t, p, database)
}

// Dial opens a session.
func (p Postgres) Dial(ctx context.Context, database string) (*Conn, error) {
	conn, err := pgx.Connect(ctx, p.URL(database))
	if err != nil {
		return nil, err
	}
	exec := func(sql string) error {
		_, err := conn.Exec(context.Background(), sql)
		return err
	}
	return &Conn{exec, func() { conn.Close(context.Background()) }}, nil
}

// Value is what a query returns, as text, in one line.
func (p Postgres) Value(t testing.TB, database, query string) string {
	t.Helper()
	conn := p.Connect(t, database)
	defer conn.Close(context.Background())
	rows, err := conn.Query(context.Background(), query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var values []string
	for rows.Next() {
		for _, v := range rows.RawValues() {
			values = append(values, string(v))
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(values, " ")
}
