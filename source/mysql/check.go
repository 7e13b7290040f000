package mysql

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"lambent"
	"lambent/internal/rows"
)

// The oldest versions that are known to do.
const (
	oldestMariaDB = 100300
	oldestMySQL   = 50700
)

// A server is what MySQL says of itself, and of our user.
type server struct {
	mariadb   bool
	version   int    // 101119 is 10.11.19
	user      string // as GRANT has it
	database  string
	variables map[string]string
}

func serverOf(c *conn) (*server, error) {
	r, err := ask(c, "SELECT VERSION(), CURRENT_USER(), DATABASE()")
	if err != nil {
		return nil, err
	}
	name, host, _ := strings.Cut(r[0][1], "@")
	s := &server{mariadb: strings.Contains(r[0][0], "MariaDB"), user: "'" + name + "'@'" + host + "'", database: r[0][2], variables: map[string]string{}}
	number, _, _ := strings.Cut(r[0][0], "-")
	for _, part := range strings.SplitN(number+".0.0", ".", 4)[:3] {
		n, _ := strconv.Atoi(part)
		s.version = s.version*100 + n
	}
	all, err := ask(c, `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'server_id', 'binlog_format', 'binlog_row_image', 'binlog_row_metadata', 'binlog_row_value_options',
		'gtid_mode', 'log_slave_updates', 'log_replica_updates', 'binlog_expire_logs_seconds', 'expire_logs_days')`)
	for _, v := range all {
		s.variables[v[0]] = v[1]
	}
	return s, err
}

// String is whose it is.
func (s *server) String() string {
	if s.mariadb {
		return "MariaDB"
	}
	return "MySQL"
}

// names reports whether the log names columns.
func (s *server) names() bool { return s.variables["binlog_row_metadata"] == "FULL" }

// check refuses a server whose log does not tell changes whole.
func (s *server) check() error {
	oldest, least := oldestMySQL, "5.7"
	if s.mariadb {
		oldest, least = oldestMariaDB, "10.3"
	}
	set := func(name, value string) error {
		return refuse("%s's %s is %s, with which its log does not tell changes whole. As an administrator: SET GLOBAL %s = %s, and the same under [mysqld] in its configuration. Sessions that are open go on as they were",
			s, name, cmp.Or(s.variables[name], "empty"), name, value).WithHint(`mysql -e "SET GLOBAL %s = %s"`, name, value)
	}
	switch image := s.variables["binlog_row_image"]; {
	case s.version < oldest:
		return lambent.Errorf(lambent.Unsupported, "mysql", "%s %d.%d is too old: there is to be %s or later", s, s.version/10000, s.version/100%100, least)
	case s.variables["log_bin"] != "ON":
		return refuse("%s writes no log of changes. Add log_bin = ON and server_id = 1 (its own, among its replicas) under [mysqld] in its configuration, and restart it", s)
	case cmp.Or(s.variables["binlog_format"], "ROW") != "ROW":
		return set("binlog_format", "ROW")
	case image != "" && image != "FULL" && image != "FULL_NODUP":
		return set("binlog_row_image", "FULL")
	case s.variables["binlog_row_value_options"] != "":
		return set("binlog_row_value_options", "''")
	case !s.mariadb && s.variables["gtid_mode"] != "ON":
		const sql = "SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE; SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = ON"
		return refuse("MySQL's gtid_mode is %s: its log does not name transactions. As an administrator: %s, and gtid_mode = ON and enforce_gtid_consistency = ON under [mysqld] in its configuration",
			cmp.Or(s.variables["gtid_mode"], "OFF"), sql).WithHint(`mysql -e "%s"`, sql)
	}
	return nil
}

// checkRights refuses a user who may not look after the log, and one that leaves out
// tables. Whether it can be read try tells.
func (s *server) checkRights(c *conn, tables []table) error {
	if _, err := ask(c, "SHOW BINARY LOGS"); codeOf(err) == mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR {
		return s.noReplication(err)
	} else if err != nil {
		return err
	}
	status := "SHOW MASTER STATUS"
	if !s.mariadb && s.version >= 80200 {
		status = "SHOW BINARY LOG STATUS"
	}
	filters, err := ask(c, status)
	if err != nil {
		return err
	}
	for i := range tables {
		schema := tables[i].Schema
		if only, but := strings.Split(filters[0][2], ","), strings.Split(filters[0][3], ","); filters[0][2] != "" && !slices.Contains(only, schema) || slices.Contains(but, schema) {
			return refuse("%s's log leaves out the database %s: binlog_do_db and binlog_ignore_db in its configuration say so. Have them not, and restart it", s, schema)
		}
	}
	if s.variables["log_slave_updates"] != "OFF" && s.variables["log_replica_updates"] != "OFF" {
		return nil
	}
	status = "SHOW SLAVE STATUS"
	if !s.mariadb && s.version >= 80022 {
		status = "SHOW REPLICA STATUS"
	}
	if r, err := ask(c, status); err == nil && len(r) > 0 { // who may not ask is not refused for that
		return refuse("this %s is a replica, and its log lacks what it is told by its primary: watch the primary, or add log_replica_updates = ON under [mysqld] in its configuration, and restart it", s)
	}
	return nil
}

func (s *server) noReplication(err error) error {
	sql := "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO " + s.user
	return refuse("the user %s may not read the log of changes (%s). As an administrator: %s", s.user, line(err), sql).WithHint(`mysql -e "%s"`, sql)
}

func (s *server) noSelect(t rows.Table, err error) error {
	sql := "GRANT SELECT ON " + quote(t.Schema, t.Name) + " TO " + s.user
	return refuse("the user %s may not read table %s (%s). As an administrator: %s", s.user, t, line(err), sql).WithHint("mysql -e '%s'", strings.ReplaceAll(sql, "'", `"`))
}

// gtids are of all transactions that are committed.
func (s *server) gtids(c *conn) (string, error) {
	variable := "gtid_executed"
	if s.mariadb {
		variable = "gtid_binlog_pos"
	}
	r, err := first(ask(c, "SELECT @@GLOBAL."+variable))
	if err != nil {
		return "", err
	}
	return strings.ReplaceAll(r[0], "\n", ""), nil
}

// A table is one of the database, as its catalog has it.
type table struct {
	rows.Table
	columns []column
}

func (t *table) sql() string { return quote(t.Schema, t.Name) }

// A column is one of a table's, as the catalog has it.
type column struct {
	Name    string `json:"name"`
	Type    string `json:"type"`              // "bigint"
	Full    string `json:"full"`              // "bigint(20) unsigned"
	Charset string `json:"charset,omitempty"` // of text
	Bytes   int    `json:"bytes,omitempty"`   // the most of text, and of what else is written as that
	JSON    bool   `json:"json,omitempty"`    // text that is
	Key     bool   `json:"key,omitempty"`     // of the primary key
	Hidden  bool   `json:"hidden,omitempty"`  // it is MariaDB's own
}

// columnsOf asks for a table's columns; nil: there is none of that name.
func columnsOf(c *conn, mariadb bool, t rows.Table) ([]column, error) {
	r, err := ask(c, `SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, CHARACTER_OCTET_LENGTH, COLUMN_KEY FROM information_schema.COLUMNS
		WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION`, t.Schema, t.Name)
	if err != nil {
		return nil, err
	}
	var checks []string
	if mariadb { // whose JSON is text that is checked
		if checks, err = first(ask(c, `SELECT CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ?`, t.Schema, t.Name)); err != nil {
			return nil, err
		}
	}
	var all []column
	for _, v := range r {
		bytes, _ := strconv.Atoi(v[4])
		all = append(all, column{
			Name: v[0], Type: strings.ToLower(v[1]), Full: v[2], Charset: v[3], Bytes: bytes, Key: v[5] == "PRI",
			JSON: strings.ToLower(v[1]) == "json" || slices.Contains(checks, "json_valid("+quote(v[0])+")"),
		})
	}
	if !mariadb || len(all) == 0 {
		return all, nil
	}
	hashes, err := first(ask(c, `SELECT COUNT(DISTINCT INDEX_NAME) FROM information_schema.STATISTICS JOIN information_schema.TABLES USING (TABLE_SCHEMA, TABLE_NAME)
		WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND INDEX_TYPE = 'HASH' AND ENGINE <> 'MEMORY'`, t.Schema, t.Name))
	if err != nil {
		return nil, err
	}
	n, _ := strconv.Atoi(hashes[0])
	for i := range n { // at the end, for each that is unique and too long for an index
		all = append(all, column{Name: hashPrefix + strconv.Itoa(i+1), Type: "bigint", Full: "bigint unsigned", Hidden: true})
	}
	return all, nil
}

// hashPrefix is of the names of columns that MariaDB adds.
const hashPrefix = "DB_ROW_HASH_"

// tablesOf looks up a trigger's tables, and refuses what cannot be watched.
func tablesOf(c *conn, s *server, d *lambent.Database) ([]table, error) {
	var all []table
	for _, name := range d.Tables {
		t := table{Table: rows.ParseTable(name, s.database)}
		switch _, err := ask(c, "SELECT 1 FROM "+t.sql()+" LIMIT 0"); codeOf(err) {
		case mysql.ER_TABLEACCESS_DENIED_ERROR, mysql.ER_DBACCESS_DENIED_ERROR, mysql.ER_COLUMNACCESS_DENIED_ERROR:
			return nil, s.noSelect(t.Table, err)
		case mysql.ER_NO_SUCH_TABLE, mysql.ER_BAD_DB_ERROR:
			return nil, noTable(c, s, t.Table)
		default:
			if err != nil {
				return nil, err
			}
		}
		r, err := ask(c, `SELECT TABLE_TYPE, ENGINE, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?`, t.Schema, t.Name)
		switch {
		case err != nil:
			return nil, err
		case len(r) == 0 || r[0][2] != t.Name:
			return nil, noTable(c, s, t.Table)
		case r[0][0] != "BASE TABLE":
			return nil, refuse("%s is no table whose changes are logged as they are made: it is of the kind %s", t, strings.ToLower(r[0][0]))
		case d.Snapshot && r[0][1] != "InnoDB":
			return nil, refuse("table %s is of %s, of which there is no snapshot: ALTER TABLE %s ENGINE = InnoDB, or watch it without", t, r[0][1], t.sql()).
				WithHint("mysql -e 'ALTER TABLE %s ENGINE = InnoDB'", t.sql())
		}
		if t.columns, err = columnsOf(c, s.mariadb, t.Table); err != nil {
			return nil, err
		}
		for i := range t.columns {
			if strings.Contains(t.columns[i].Full, "COMPRESSED") {
				return nil, refuse("column %s of table %s is compressed, which cannot be read in the log: ALTER TABLE %s MODIFY it without", t.columns[i].Name, t, t.sql())
			}
		}
		all = append(all, t)
	}
	for _, name := range d.Columns {
		if !slices.ContainsFunc(all, func(t table) bool {
			return slices.ContainsFunc(t.columns, func(c column) bool { return c.Name == name })
		}) {
			var names []string
			for _, c := range all[0].columns {
				names = append(names, c.Name)
			}
			return nil, refuse("there is no column %s: table %s has %s", name, all[0], strings.Join(names, ", "))
		}
	}
	if d.Snapshot && !s.mariadb {
		return all, s.checkLock(c, all)
	}
	return all, nil
}

// checkLock refuses a user who may not do what MySQL needs done for a snapshot.
func (s *server) checkLock(c *conn, tables []table) error {
	_, err := ask(c, lockAll(tables))
	if codeOf(err) == mysql.ER_DBACCESS_DENIED_ERROR || codeOf(err) == mysql.ER_TABLEACCESS_DENIED_ERROR {
		var grants []string
		for i := range tables {
			grant := "GRANT LOCK TABLES ON " + quote(tables[i].Schema) + ".* TO " + s.user
			if !slices.Contains(grants, grant) {
				grants = append(grants, grant)
			}
		}
		sql := strings.Join(grants, "; ")
		return refuse("the user %s may not lock tables for the moment in which a snapshot of them begins (%s). As an administrator: %s", s.user, line(err), sql).WithHint("mysql -e '%s'", strings.ReplaceAll(sql, "'", `"`))
	}
	_, err = ask(c, "UNLOCK TABLES") // that they are in use now is no reason
	return err
}

// noTable refuses a table that is not there, and names some that are.
func noTable(c *conn, s *server, t rows.Table) error {
	there, err := first(ask(c, `SELECT CONCAT(TABLE_SCHEMA, '.', TABLE_NAME) FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE'
		AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY TABLE_SCHEMA <> ?, 1 LIMIT 10`, t.Schema))
	if err != nil {
		return err
	}
	if len(there) == 0 {
		return refuse("there is no table %s, and no other either that the user %s may read", t, s.user)
	}
	return refuse("there is no table %s. There are: %s", t, strings.Join(there, ", "))
}
