package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pglogrepl"
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
