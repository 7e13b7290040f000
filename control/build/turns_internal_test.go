package build

import (
	"io"
	"testing"

	"lambent"
)

// Who does not wait for a turn has none while others do, and leaves none behind.
func TestTurnsWithoutWaiting(t *testing.T) {
	turns := newTurns(1)
	take := func(project string) func() {
		t.Helper()
		done, err := turns.take(t.Context(), project, false, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	done := take("a")
	for _, project := range []string{"a", "b"} {
		if _, err := turns.take(t.Context(), project, false, io.Discard); !lambent.Is(err, lambent.Throttled) {
			t.Errorf("%s: %v", project, err)
		}
	}
	done()
	take("a")()
	take("b")()
}
