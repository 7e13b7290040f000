//go:build linux && (amd64 || arm64)

package jail_test

import (
	"sync/atomic"
	"testing"
	"time"

	"lambent/sandbox"
)

// slow takes its time to end.
type slow struct {
	able
	ended atomic.Bool
}

func (d *slow) Close() error {
	time.Sleep(300 * time.Millisecond)
	err := d.able.Close()
	d.ended.Store(true)
	return err
}

// Close returns when the jail has ended, and not before it has destroyed what it holds.
func TestCloseWaitsForTheJail(t *testing.T) {
	inner := &slow{able: able{t: t}}
	d, served := open(t, func() (sandbox.Driver, error) { return inner, nil })
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if !inner.ended.Load() {
		t.Error("Close has returned, and the jail has not ended")
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
