package names

import (
	"context"
	"errors"
	"net/netip"
	"syscall"

	"lambent"
	"lambent/sandbox"
)

var _ sandbox.Driver = (*driver)(nil)

// asking is a sandbox with a network of its own, and what this driver passes on.
type asking interface {
	sandbox.Sandbox
	sandbox.Freezer
	sandbox.Settler
	sandbox.Sharer
	sandbox.Witness
	sandbox.Terminator

	// Names returns the sockets inside at which the code asks for names: one that
	// has datagrams, and one that listens. They are valid until Destroy, and not
	// another sandbox's before that.
	Names() (datagrams, streams syscall.Conn)

	// Open lets the code connect to addresses that a name of its network policy
	// leads to. The error is Forbidden if that may not be. Concurrent calls are
	// possible, at any time.
	Open(name string, addresses []netip.Addr) error
}

type driver struct {
	sandbox.Driver
	relay *Relay
}

// New returns a driver that answers what the code in another's sandboxes asks for
// names. It takes over the other. Sandboxes without sockets for that are as they
// were.
func New(d sandbox.Driver, o Options) (sandbox.Driver, error) {
	r, err := Open(o)
	if err != nil {
		return nil, err
	}
	return &driver{d, r}, nil
}

// Park implements sandbox.Driver.
func (d *driver) Park(ctx context.Context, rt lambent.Runtime) (sandbox.Sandbox, error) {
	s, err := d.Driver.Park(ctx, rt)
	if a, ok := s.(asking); ok && err == nil {
		return &box{asking: a, relay: d.relay}, nil
	}
	return s, err
}

// Close implements sandbox.Driver.
func (d *driver) Close() error { return errors.Join(d.relay.Close(), d.Driver.Close()) }

type box struct {
	asking
	relay  *Relay
	server *Server // nil: not assigned
}

// Assign implements sandbox.Sandbox. Before it there is no code that could ask.
func (b *box) Assign(ctx context.Context, t sandbox.Task) (err error) {
	if err := b.asking.Assign(ctx, t); err != nil {
		return err
	}
	datagrams, streams := b.Names()
	b.server, err = b.relay.Serve(datagrams, streams, t.Network, b.Open)
	return err
}

// Destroy implements sandbox.Sandbox. What is still being asked for ends first:
// afterwards the sockets may be the next sandbox's.
func (b *box) Destroy() error {
	if b.server != nil {
		b.server.Close()
	}
	return b.asking.Destroy()
}
