package postgres

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"lambent"
	"lambent/internal/rows"
)

// oldest is the first version of PostgreSQL that tells changes of partitions as those of
// their table.
const oldest = 130000

// sharedPublication is the name of a publication that whoever runs the database has made
// for roles that may not.
const sharedPublication = "lambent"

// A server is what PostgreSQL says of itself, and of our role.
type server struct {
	walLevel            string
	version             int
	standby             bool
	role, database      string
	replicates, creates bool // what the role may
	amazon              bool // it is given by a role of theirs
}

func refuse(format string, args ...any) *lambent.Error {
	return lambent.Errorf(lambent.Invalid, "postgres", format, args...)
}

func serverOf(ctx context.Context, conn *pgconn.PgConn) (s server, err error) {
	rows, err := ask(ctx, conn, `
		SELECT current_setting('wal_level'), current_setting('server_version_num')::int, pg_is_in_recovery(), current_user, current_database(),
			r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_roles a WHERE a.rolname = 'rds_replication' AND pg_has_role(a.oid, 'USAGE')),
			has_database_privilege(current_database(), 'CREATE'), EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication')
		FROM pg_roles r WHERE r.rolname = current_user`)
	if err != nil || len(rows) == 0 {
		return s, err
	}
	r := rows[0]
	s = server{walLevel: r[0], standby: r[2] == "t", role: r[3], database: r[4], replicates: r[5] == "t", creates: r[6] == "t", amazon: r[7] == "t"}
	s.version, err = strconv.Atoi(r[1])
	return s, err
}

// check refuses a server that has no log of changes for us.
func (s *server) check() error {
	switch {
	case s.version < oldest:
		return lambent.Errorf(lambent.Unsupported, "postgres", "PostgreSQL %d is too old: there is to be 13 or later", s.version/10000)
	case s.standby:
		return refuse("this PostgreSQL is a standby: watch the primary. target_session_attrs=read-write in the URL finds it among several hosts")
	case s.walLevel != "logical":
		set := "ALTER SYSTEM SET wal_level = 'logical'"
		if s.amazon {
			set = "the parameter rds.logical_replication = 1 in its parameter group"
		}
		return refuse("PostgreSQL's wal_level is %s, which does not tell changes. As a superuser: %s, and restart PostgreSQL", s.walLevel, set).
			WithHint("psql -c \"ALTER SYSTEM SET wal_level = 'logical'\"")
	case !s.replicates && s.amazon:
		return refuse("the role %s may not read the log of changes: GRANT rds_replication TO %s", s.role, quote(s.role)).
			WithHint("psql -c 'GRANT rds_replication TO %s'", quote(s.role))
	case !s.replicates:
		return noReplication(nil, s.role)
	}
	return nil
}

// A table is one of the database, as its catalog has it.
type table struct {
	rows.Table
	kind     string // r, or p for one in partitions
	identity string // what an update or a delete tells of the row before: d, f, i or n
	keyed    bool   // it has a primary key
	owned    bool   // the role may publish it
	readable bool
	columns  []string
}

func (t *table) sql() string { return quote(t.Schema, t.Name) }

// tablesOf looks up a trigger's tables, and refuses what cannot be watched.
func tablesOf(ctx context.Context, conn *pgconn.PgConn, s *server, d *lambent.Database) ([]table, error) {
	var all []table
	for _, name := range d.Tables {
		t := table{Table: rows.ParseTable(name, "public")}
		rows, err := ask(ctx, conn, `
			SELECT c.relkind::text, c.relpersistence::text, c.relreplident::text, pg_has_role(c.relowner, 'USAGE'), has_table_privilege(c.oid, 'SELECT'),
				EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`, t.Schema, t.Name)
		switch {
		case err != nil:
			return nil, err
		case len(rows) == 0:
			return nil, noTable(ctx, conn, s, t.Table)
		}
		r := rows[0]
		t.kind, t.identity, t.owned, t.readable, t.keyed = r[0], r[2], r[3] == "t", r[4] == "t", r[5] == "t"
		switch {
		case t.kind != "r" && t.kind != "p" || r[1] != "p":
			return nil, refuse("%s is no table whose changes are logged: it is a view, or foreign, temporary or unlogged", t)
		case (d.Wants("update") || d.Wants("delete")) && (t.identity == "n" || t.identity == "d" && !t.keyed):
			return nil, refuse("table %s has no primary key: with its changes told, PostgreSQL would refuse to update or delete in it. Give it one, or ALTER TABLE %s REPLICA IDENTITY FULL, "+
				"or watch it for inserts alone (--operation insert,truncate)", t, t.sql()).WithHint("psql -c 'ALTER TABLE %s REPLICA IDENTITY FULL'", t.sql())
		case d.Snapshot && !t.readable:
			return nil, refuse("the role %s may not read table %s, of which a snapshot is wanted: GRANT SELECT ON %s TO %s", s.role, t, t.sql(), quote(s.role)).
				WithHint("psql -c 'GRANT SELECT ON %s TO %s'", t.sql(), quote(s.role))
		}
		if t.columns, err = column(ask(ctx, conn, `SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`, t.sql())); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	for _, name := range d.Columns {
		if !slices.ContainsFunc(all, func(t table) bool { return slices.Contains(t.columns, name) }) {
			return nil, refuse("there is no column %s: table %s has %s", name, all[0], strings.Join(all[0].columns, ", "))
		}
	}
	return all, nil
}

// noTable refuses a table that is not there, and names some that are.
func noTable(ctx context.Context, conn *pgconn.PgConn, s *server, t rows.Table) error {
	there, err := column(ask(ctx, conn, `SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY n.nspname <> $1, 1 LIMIT 10`, t.Schema))
	if err != nil {
		return err
	}
	if len(there) == 0 {
		return refuse("database %s has no table %s, and no other either", s.database, t)
	}
	return refuse("database %s has no table %s. There are: %s", s.database, t, strings.Join(there, ", "))
}

// publicationOf returns the publication that a trigger reads, which is to be made if it
// is the trigger's own.
func publicationOf(ctx context.Context, conn *pgconn.PgConn, s *server, d *lambent.Database, tables []table, own string) (string, error) {
	var missing, foreign []string
	for i := range tables {
		if !tables[i].owned {
			foreign = append(foreign, tables[i].sql())
		}
	}
	if s.creates && len(foreign) == 0 {
		return own, nil
	}
	why := "may create nothing in database " + s.database
	if s.creates {
		why = "is not the owner of " + strings.Join(foreign, " and ")
	}
	publication, err := ask(ctx, conn, `SELECT pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication WHERE pubname = $1`, sharedPublication)
	if err != nil {
		return "", err
	}
	if len(publication) == 0 {
		var all []string
		for i := range tables {
			all = append(all, tables[i].sql())
		}
		sql := "CREATE PUBLICATION " + sharedPublication + " FOR TABLE " + strings.Join(all, ", ") + " WITH (publish_via_partition_root = true)"
		return "", refuse("the role %s %s, and so cannot publish changes itself. As the owner or a superuser: %s", s.role, why, sql).WithHint("psql -d %s -c '%s'", s.database, sql)
	}
	for i := range tables {
		there, err := ask(ctx, conn, `SELECT 1 FROM pg_publication_tables WHERE pubname = $1 AND schemaname = $2 AND tablename = $3`, sharedPublication, tables[i].Schema, tables[i].Name)
		if err != nil {
			return "", err
		}
		if len(there) == 0 {
			missing = append(missing, tables[i].sql())
		}
	}
	if len(missing) > 0 {
		sql := "ALTER PUBLICATION " + sharedPublication + " ADD TABLE " + strings.Join(missing, ", ")
		return "", refuse("the role %s %s, and the publication %s lacks a table. As its owner: %s", s.role, why, sharedPublication, sql).WithHint("psql -d %s -c '%s'", s.database, sql)
	}
	for i, operation := range lambent.DatabaseOperations {
		if d.Wants(operation) && publication[0][i] != "t" {
			sql := "ALTER PUBLICATION " + sharedPublication + " SET (publish = 'insert, update, delete, truncate')"
			return "", refuse("the publication %s does not tell each %s. As its owner: %s", sharedPublication, operation, sql).WithHint("psql -d %s -c \"%s\"", s.database, sql)
		}
	}
	return sharedPublication, nil
}
