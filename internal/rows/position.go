package rows

import (
	"context"
	"encoding/json"
	"time"

	"lambent"
)

// ReadPosition reads how far a trigger's source has come, which has a field "since" that says
// of which time of the trigger's that is. Kinds: Internal; Stale, of another time or nothing.
func ReadPosition(ctx context.Context, engine string, t *lambent.Trigger, from interface {
	Position(context.Context) ([]byte, error)
}, at any) error {
	b, err := from.Position(ctx)
	if err != nil {
		return err
	}
	var of struct{ Since time.Time }
	if b != nil {
		for _, v := range []any{at, &of} {
			if err := json.Unmarshal(b, v); err != nil {
				return lambent.Errorf(lambent.Internal, engine, "the position of trigger %s: %w", t.ID, err)
			}
		}
	}
	if !of.Since.Equal(t.Since) {
		return Lost(engine, t, "where the trigger has come to is not known")
	}
	return nil
}

// Lost is the error of a trigger that cannot go on where it was.
func Lost(engine string, t *lambent.Trigger, why string) error {
	return lambent.Errorf(lambent.Stale, engine, "%s: what was committed since then is not known. To begin anew: lambent trigger disable %s && lambent trigger enable %s", why, t.ID, t.ID)
}
