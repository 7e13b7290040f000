package sandbox

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// MaxPatience is the longest that a Dial may wait for somebody to listen.
const MaxPatience = time.Second

// nextLook is from one look whether somebody listens to the next: each takes some 20 µs.
const nextLook = 200 * time.Microsecond

// Patiently is for Dial: it calls dial until that is not refused, for as long as patience
// says.
func Patiently(ctx context.Context, patience time.Duration, dial func() (net.Conn, error)) (net.Conn, error) {
	for begun := time.Now(); ; {
		c, err := dial()
		if !errors.Is(err, syscall.ECONNREFUSED) || time.Since(begun) >= patience || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(nextLook)
	}
}
