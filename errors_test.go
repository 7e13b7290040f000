package lambent_test

import (
	"errors"
	"testing"
	"time"

	"lambent"
)

// What Retry-After says.
func TestRetrySeconds(t *testing.T) {
	late := func(kind lambent.Kind, after time.Duration) error {
		e := lambent.Errorf(kind, "test", "no")
		e.RetryAfter = after
		return e
	}
	for _, c := range []struct {
		err  error
		want int
	}{
		{late(lambent.Throttled, 0), 1}, {late(lambent.Throttled, time.Millisecond), 1}, {late(lambent.Throttled, time.Second), 1}, {late(lambent.Throttled, 1001*time.Millisecond), 2},
		{late(lambent.Unavailable, 0), 0}, {late(lambent.Unavailable, time.Minute), 60}, {late(lambent.Internal, time.Minute), 0}, {errors.New("other"), 0}, {nil, 0},
	} {
		if got := lambent.RetrySeconds(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}
