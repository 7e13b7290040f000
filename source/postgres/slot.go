package postgres

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"lambent"
)

// publish makes a trigger's publication, of what it wants alone.
func publish(ctx context.Context, conn *pgconn.PgConn, t *lambent.Trigger, tables []table) error {
	var names, operations []string
	for i := range tables {
		names = append(names, tables[i].sql())
	}
	for _, o := range lambent.DatabaseOperations {
		if t.Database.Wants(o) {
			operations = append(operations, o)
		}
	}
	name := nameOf(t)
	if _, err := ask(ctx, conn, "DROP PUBLICATION IF EXISTS "+name); err != nil {
		return err
	}
	_, err := ask(ctx, conn, "CREATE PUBLICATION "+name+" FOR TABLE "+strings.Join(names, ", ")+
		" WITH (publish = "+literal(strings.Join(operations, ", "))+", publish_via_partition_root = true)")
	return err
}

// slotTimeout is how long a slot may take: it waits for all transactions that are open.
const slotTimeout = 5 * time.Second

// createSlot makes a trigger's slot, in the place of one that may be there.
func createSlot(ctx context.Context, conn, log *pgconn.PgConn, t *lambent.Trigger, snapshot string) (pglogrepl.CreateReplicationSlotResult, error) {
	name := nameOf(t)
	if err := dropSlot(ctx, conn, name); err != nil {
		return pglogrepl.CreateReplicationSlotResult{}, err
	}
	limited, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	slot, err := newSlot(limited, log, name, snapshot)
	switch {
	case err == nil || ctx.Err() != nil:
		return slot, err
	case limited.Err() != nil:
		return slot, blocked(ctx, conn)
	case codeOf(err) == codeSlots:
		return slot, lambent.Errorf(lambent.Unavailable, "postgres", "%s: see SELECT * FROM pg_replication_slots for what can be dropped, or as a superuser ALTER SYSTEM SET max_replication_slots = 50, and restart PostgreSQL", line(err)).
			WithHint("psql -c 'ALTER SYSTEM SET max_replication_slots = 50'")
	}
	return slot, err
}

// newSlot makes a slot that standbys may have, too, where PostgreSQL can do that: since 17,
// for those that have sync_replication_slots set.
func newSlot(ctx context.Context, log *pgconn.PgConn, name, snapshot string) (pglogrepl.CreateReplicationSlotResult, error) {
	const failover = 17
	major, _, _ := strings.Cut(log.ParameterStatus("server_version"), ".")
	if version, err := strconv.Atoi(major); err != nil || version < failover {
		return pglogrepl.CreateReplicationSlot(ctx, log, name, "pgoutput", pglogrepl.CreateReplicationSlotOptions{Mode: pglogrepl.LogicalReplication, SnapshotAction: snapshot})
	}
	does := map[string]string{"NOEXPORT_SNAPSHOT": "nothing", "EXPORT_SNAPSHOT": "export"}[snapshot]
	return pglogrepl.ParseCreateReplicationSlot(log.Exec(ctx, "CREATE_REPLICATION_SLOT "+name+" LOGICAL pgoutput (SNAPSHOT "+literal(does)+", FAILOVER true)"))
}

// blocked is the error of a slot that waits for somebody's transaction.
func blocked(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := ask(ctx, conn, `SELECT pid, coalesce(nullif(application_name, ''), usename, ''), date_trunc('second', now() - xact_start)::interval(0) FROM pg_stat_activity
		WHERE xact_start IS NOT NULL AND backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY xact_start LIMIT 1`)
	if err != nil || len(rows) == 0 {
		return lambent.Errorf(lambent.Unavailable, "postgres", "PostgreSQL has not made the slot in %v: a transaction may be open for long", slotTimeout)
	}
	return lambent.Errorf(lambent.Unavailable, "postgres", "PostgreSQL waits for the transaction of process %s (%s), open for %s, before changes can be told from each other: have it end, or SELECT pg_terminate_backend(%s)",
		rows[0][0], rows[0][1], rows[0][2], rows[0][0]).WithHint("psql -c 'SELECT pg_terminate_backend(%s)'", rows[0][0])
}

// dropSlot removes a slot, from whomever has it: that is a connection of ours which is
// about to end.
func dropSlot(ctx context.Context, conn *pgconn.PgConn, name string) error {
	for {
		pids, err := column(ask(ctx, conn, `SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1`, name))
		if err == nil && len(pids) == 0 {
			return nil
		}
		if err == nil && pids[0] != "" {
			_, err = ask(ctx, conn, `SELECT pg_terminate_backend($1)`, pids[0])
		}
		if err == nil {
			_, err = ask(ctx, conn, `SELECT pg_drop_replication_slot($1)`, name)
		}
		switch codeOf(err) {
		case codeUndefined:
			return nil
		case codeInUse:
		default:
			if err != nil {
				return err
			}
			return nil
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
