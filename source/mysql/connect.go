package mysql

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"lambent"
	"lambent/source"
)

const (
	connectTimeout = 10 * time.Second
	queryTimeout   = 15 * time.Second
)

// A config is what a database's URL says.
type config struct {
	host                     string
	port                     uint16
	user, password, database string
	tls                      *tls.Config // nil: without
	preferred                bool        // without, where the server has none
}

// configuration reads a database's URL.
func configuration(d *lambent.Database) (*config, error) {
	if err := d.Validate(); err != nil { // an earlier release may have kept it
		return nil, err
	}
	u, err := url.Parse(d.URL)
	if err != nil { // it has the password
		return nil, refuse("the database's URL cannot be read")
	}
	c := &config{host: u.Hostname(), port: 3306, user: u.User.Username(), database: strings.Trim(u.Path, "/")}
	c.password, _ = u.User.Password()
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, refuse("the database's URL has the port %.32q", p)
		}
		c.port = uint16(n)
	}
	c.tls, err = d.TLSConfig(c.host)
	c.preferred = d.TLSMode() == "preferred"
	return c, err
}

// session is how values are written for us, and for how long we are waited for.
const session = "SET NAMES utf8mb4, SESSION time_zone = '+00:00', SESSION sql_mode = '', SESSION net_write_timeout = 3600, SESSION wait_timeout = 3600, SESSION lock_wait_timeout = 5"

var errSlow = fmt.Errorf("it takes more than %v", connectTimeout)

// hang returns a context for connections that are to end with ctx, when end is called,
// or if they are not made in time, which made says of them.
func hang(ctx context.Context) (life context.Context, made func(error) error, end func()) {
	life, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(connectTimeout, func() { cancel(errSlow) })
	made = func(err error) error {
		if !timer.Stop() {
			err = errSlow
		}
		if err != nil {
			cancel(nil)
		}
		return err
	}
	return life, made, func() { cancel(nil) }
}

// dialer makes connections that end with life. It makes none after that.
func dialer(life context.Context) client.Dialer {
	return func(_ context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(life, network, address)
		if err == nil {
			context.AfterFunc(life, func() { _ = c.Close() })
		}
		return c, err
	}
}

// safely has the client's code run, which takes it for granted that what answers is
// MySQL.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("what it says cannot be read: %v", v)
		}
	}()
	return f()
}

// A conn is a connection for SQL.
type conn struct {
	*client.Conn
	end func()
}

func (c *conn) Close() { c.end() }

// connect opens a connection for SQL, which ends with ctx.
func (c *config) connect(ctx context.Context) (*conn, error) {
	sql, err := c.open(ctx)
	if err != nil && c.preferred && c.tls != nil && strings.Contains(err.Error(), "does not support TLS") {
		c.tls = nil
		sql, err = c.open(ctx)
	}
	if err != nil {
		return nil, err
	}
	if _, err := ask(sql, session); err != nil {
		sql.Close()
		return nil, err
	}
	return sql, nil
}

func (c *config) open(ctx context.Context) (*conn, error) {
	life, made, end := hang(ctx)
	opened := &conn{end: end}
	return opened, made(safely(func() (err error) {
		address := net.JoinHostPort(c.host, strconv.Itoa(int(c.port)))
		opened.Conn, err = client.ConnectWithDialer(life, "tcp", address, c.user, c.password, c.database, dialer(life), func(conn *client.Conn) error {
			conn.SetTLSConfig(c.tls)
			return nil
		})
		return err
	}))
}

// ask runs a statement with arguments, and returns its rows as text; NULL is empty.
func ask(c *conn, sql string, args ...any) (rows [][]string, err error) {
	r, err := query(c, sql, args...)
	if err != nil || r.Resultset == nil {
		return nil, err
	}
	for i := range r.RowNumber() {
		var row []string
		for j := range r.ColumnNumber() {
			v, err := r.GetString(i, j)
			if err != nil {
				return nil, err
			}
			row = append(row, v)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// query is for those whose columns' names are wanted.
func query(c *conn, sql string, args ...any) (r *mysql.Result, err error) {
	_ = c.SetReadDeadline(time.Now().Add(queryTimeout))
	err = safely(func() (err error) {
		r, err = c.Execute(sql, args...)
		return err
	})
	_ = c.SetReadDeadline(time.Time{})
	return r, err
}

// first is the first column of the rows that ask returns.
func first(rows [][]string, err error) ([]string, error) {
	values := make([]string, len(rows))
	for i, row := range rows {
		values[i] = row[0]
	}
	return values, err
}

func refuse(format string, args ...any) *lambent.Error {
	return lambent.Errorf(lambent.Invalid, "mysql", format, args...)
}

func codeOf(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MyError](err); ok {
		return e.Code
	}
	return 0
}

// line is an error as one line.
func line(err error) string {
	if e, ok := errors.AsType[*mysql.MyError](err); ok {
		return e.Message
	}
	s, _, _ := strings.Cut(err.Error(), "\nstack:")
	s = strings.Join(strings.Fields(s), " ")
	const most = 300 // it may have rows in it
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// whose is the kind of server that answers for a database, if that is known, or that its URL says.
func whose(d *lambent.Database, s *server) string {
	if s == nil {
		scheme, _, _ := strings.Cut(d.URL, ":")
		s = &server{mariadb: strings.EqualFold(scheme, "mariadb")}
	}
	return s.String()
}

// explain is an error of a server for people; nil: it is not known which one answers.
func explain(d *lambent.Database, s *server, err error) error {
	if _, ok := errors.AsType[*lambent.Error](err); ok {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return lambent.Errorf(lambent.Canceled, "mysql", "given up: %w", err)
	}
	where := whose(d, s) + " at " + d.Masked()
	switch code := codeOf(err); code {
	case mysql.ER_ACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_ACCESS_DENIED_NO_PASSWORD_ERROR, mysql.ER_BAD_DB_ERROR, mysql.ER_HOST_NOT_PRIVILEGED, mysql.ER_HOST_IS_BLOCKED:
		return refuse("%s refuses the connection: %s", where, line(err))
	case mysql.ER_CON_COUNT_ERROR, mysql.ER_TOO_MANY_USER_CONNECTIONS:
		return lambent.Errorf(lambent.Unavailable, "mysql", "%s has no room: %s", where, line(err)).WithHint("SET GLOBAL max_connections = 500")
	case 0:
		return lambent.Errorf(lambent.Unavailable, "mysql", "%s does not answer: %s%s", where, line(err), source.Untrusted(err))
	default:
		return lambent.Errorf(lambent.Unavailable, "mysql", "%s: %s (error %d)", where, line(err), code)
	}
}

// quote is a name in SQL.
func quote(names ...string) string {
	for i, name := range names {
		names[i] = "`" + strings.ReplaceAll(name, "`", "``") + "`"
	}
	return strings.Join(names, ".")
}
