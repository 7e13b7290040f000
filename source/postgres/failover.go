package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
)

// follows makes sure that the log of a server has what the trigger was told, though it may
// be another server's by now: where a standby is promoted the log forks, and what the old
// primary had committed behind the fork is not in it. Other things are at the same
// places.
func (w *watch) follows(ctx context.Context, timeline int32) error {
	if w.from.Timeline == 0 || w.from.Timeline == timeline {
		return nil
	}
	history, err := pglogrepl.TimelineHistory(ctx, w.log, timeline)
	if err != nil {
		return err
	}
	fork, known := forkOf(string(history.Content), w.from.Timeline)
	switch {
	case !known:
		return w.lost(fmt.Sprintf("the log of PostgreSQL is timeline %d, which does not come from %d that the trigger has read", timeline, w.from.Timeline))
	case w.from.LSN > fork:
		return w.lost(fmt.Sprintf("a standby became the primary that had come to %s, and the trigger was told of more, to %s", fork, w.from.LSN))
	}
	return nil
}

// forkOf finds in a timeline's history where another that it comes from ended. A line of
// it is the number of one, where that ended, and why.
func forkOf(history string, timeline int32) (pglogrepl.LSN, bool) {
	for line := range strings.Lines(history) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != strconv.Itoa(int(timeline)) {
			continue
		}
		at, err := pglogrepl.ParseLSN(fields[1])
		return at, err == nil
	}
	return 0, false
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
