package databasetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
)

// A MySQL is a server of MariaDB or of MySQL, with an administrator "admin" whose
// password is "secret". Its log has rows, whole, and the names of their columns.
type MySQL struct{ *process }

// A Flavour is whose server a MySQL is.
type Flavour struct {
	Name    string
	program func() string // the server's; empty: there is none
	data    func() (string, error)
	options []string
	shared  func() (*MySQL, error)
	missing string
	may     bool // be missing: the oldest Debian that we run on has none
}

// MariaDB is what Debian has.
var MariaDB = newFlavour(&Flavour{
	Name:    "mariadb",
	program: sync.OnceValue(func() string { return programOf("mariadbd", "") }),
	options: []string{"--max-recursive-iterations=1000000"},
	missing: "there is no MariaDB: apt-get install mariadb-server-core mariadb-client-core",
}, func(_, data string) []string {
	return []string{programOf("mariadb-install-db", ""), "--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M"}
})

// Oracle is MySQL itself.
var Oracle = newFlavour(&Flavour{
	Name:    "mysql",
	program: sync.OnceValue(func() string { return programOf("mysqld", "mariadb") }),
	options: []string{"--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--mysqlx=OFF", "--secure-file-priv=NULL", "--cte-max-recursion-depth=1000000"},
	missing: "there is no MySQL: apt-get install mysql-server-core, where there is one",
	may:     true,
}, func(program, data string) []string {
	return []string{program, "--no-defaults", "--initialize-insecure", "--datadir=" + data}
})

// programOf finds a program, but not where it is a link to another.
func programOf(name, other string) string {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		file := filepath.Join(dir, name)
		real, err := filepath.EvalSymlinks(file)
		if err == nil && (other == "" || !strings.Contains(real, other)) {
			return file
		}
	}
	return ""
}

// newFlavour adds what all have: data of a server that has never run, which is copied,
// and the server that tests share.
func newFlavour(f *Flavour, install func(program, data string) []string) *Flavour {
	f.data = sync.OnceValues(func() (string, error) {
		dir, err := directory()
		if err != nil {
			return "", err
		}
		args := install(f.program(), filepath.Join(dir, "data"))
		return filepath.Join(dir, "data"), run(command(dir, args[0], args[1:]...))
	})
	f.shared = sync.OnceValues(func() (*MySQL, error) {
		m, err := f.new()
		if err != nil {
			return nil, err
		}
		return m, Share(m, nil)
	})
	return f
}

// new prepares a server.
func (f *Flavour) new(settings ...string) (*MySQL, error) {
	template, err := f.data()
	if err != nil {
		return nil, err
	}
	data, err := copyOf(template)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(data, "auto.cnf")); err != nil { // MySQL's identity
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := directory()
	if err != nil {
		return nil, err
	}
	first := filepath.Join(dir, "first.sql")
	statements := "SET sql_log_bin = 0;\nCREATE USER IF NOT EXISTS admin@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON *.* TO admin@'%' WITH GRANT OPTION;\n"
	if err := os.WriteFile(first, []byte(statements), 0o644); err != nil {
		return nil, err
	}
	p := &process{Port: port}
	m := &MySQL{p}
	p.start = func() (*exec.Cmd, error) {
		args := []string{"--no-defaults", "--datadir=" + data, fmt.Sprint("--port=", p.Port), "--bind-address=127.0.0.1", "--socket=" + filepath.Join(dir, "socket"), "--pid-file=" + filepath.Join(dir, "pid"),
			"--tmpdir=" + dir, "--init-file=" + first, fmt.Sprint("--server-id=", port), "--log-bin=" + filepath.Join(data, "bin"), "--binlog-format=ROW", "--binlog-row-metadata=FULL",
			"--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0", "--innodb-buffer-pool-size=32M", "--performance-schema=OFF"}
		return command(dir, f.program(), append(append(args, f.options...), settings...)...), nil
	}
	p.alive = func(ctx context.Context) error {
		conn, err := m.connect(ctx, "")
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return m, nil
}

func (f *Flavour) need(t testing.TB) {
	t.Helper()
	if f.program() == "" {
		if f.may {
			t.Skip(f.missing)
		}
		missing(t, f.missing)
	}
}

// Shared is a server for all of a package's tests, which is to have Main, or skips the
// test.
func (f *Flavour) Shared(t testing.TB) *MySQL {
	t.Helper()
	f.need(t)
	m, err := f.shared()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// New is one of a test's own, with settings such as "--binlog-format=MIXED", or skips the
// test.
func (f *Flavour) New(t testing.TB, settings ...string) *MySQL {
	t.Helper()
	f.need(t)
	m, err := f.new(settings...)
	if err != nil {
		t.Fatal(err)
	}
	own(t, m.process, nil)
	return m
}

// URL is that of a database, for the administrator.
func (m *MySQL) URL(database string) string { return m.URLOf("admin", database) }

// URLOf is for a user whose password is "secret".
func (m *MySQL) URLOf(user, database string) string {
	return fmt.Sprintf("mysql://%s:secret@127.0.0.1:%d/%s", user, m.Port, database)
}

func (m *MySQL) connect(ctx context.Context, database string) (*client.Conn, error) {
	conn, err := client.ConnectWithContext(ctx, fmt.Sprint("127.0.0.1:", m.Port), "admin", "secret", database, 5*time.Second)
	if err == nil {
		_, err = conn.Execute("SET NAMES utf8mb4")
	}
	return conn, err
}

// Database makes a database for a test, with tables, and returns its name.
func (m *MySQL) Database(t testing.TB, tables ...string) string {
	t.Helper()
	name := fmt.Sprintf("d%d", time.Now().UnixNano())
	m.Exec(t, "", "CREATE DATABASE "+name+" CHARACTER SET utf8mb4")
	m.Exec(t, name, tables...)
	return name
}

// Exec runs statements, one after the other.
func (m *MySQL) Exec(t testing.TB, database string, statements ...string) {
	t.Helper()
	exec := m.Session(t, database)
	for _, s := range statements {
		exec(s)
	}
}

// Session returns what runs statements in one session, which ends with the test.
func (m *MySQL) Session(t testing.TB, database string) (exec func(sql string)) {
	t.Helper()
	return session(t, m, database)
}

// Dial opens a session.
func (m *MySQL) Dial(ctx context.Context, database string) (*Conn, error) {
	conn, err := m.connect(ctx, database)
	if err != nil {
		return nil, err
	}
	exec := func(sql string) error {
		_, err := conn.Execute(sql)
		return err
	}
	return &Conn{exec, func() { conn.Close() }}, nil
}

// Value is what a query returns, as text, in one line.
func (m *MySQL) Value(t testing.TB, database, query string) string {
	t.Helper()
	conn, err := m.connect(context.Background(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := conn.Execute(query)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for row := range r.RowNumber() {
		for i := range r.ColumnNumber() {
			s, err := r.GetString(row, i)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, s)
		}
	}
	return strings.Join(values, " ")
}
