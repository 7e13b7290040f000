package netns

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"lambent"
)

const (
	// MaxServers and MaxSlots bound the numbers by which networks are named.
	MaxServers = 13
	MaxSlots   = 4096
)

// Options configure what Open opens.
type Options struct {
	// Server is 0 to 12, and no other server's on this machine: names and
	// addresses are made from it.
	Server int
	Log    *slog.Logger
}

// Nets are the networks of one server. Its methods may be called concurrently.
type Nets struct {
	server int
	log    *slog.Logger
	home   *os.File        // the host's network namespace
	host   *netlink.Handle // speaks to it, from any thread
	fence  *fence
	routes *forwarding

	making sync.WaitGroup

	mu     sync.Mutex // guards what follows
	open   map[int]*Net
	closed bool
}

// Open takes over what a server of this number owns in the network namespace
// that the calling thread is in: whatever a crash left of it is removed, and the
// fence stands, before it returns.
func Open(o Options) (*Nets, error) {
	const op = "netns.Open"
	if o.Server < 0 || o.Server >= MaxServers {
		return nil, lambent.Errorf(lambent.Invalid, op, "server number %d is outside 0 to %d", o.Server, MaxServers-1)
	}
	n := &Nets{server: o.Server, log: o.Log, open: map[int]*Net{}}
	if err := n.start(); err != nil {
		_ = n.shut()
		return nil, lambent.Errorf(lambent.Internal, op, "cannot prepare the host's network for sandboxes: %w", err).
			WithHint("lambent doctor")
	}
	n.warnOfOthers()
	return n, nil
}

func (n *Nets) start() (err error) {
	if n.home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if n.host, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		return err
	}
	if err := n.removeLinks(); err != nil {
		return fmt.Errorf("interfaces of the last run: %w", err)
	}
	fence := n.newFence()
	left := fence.leftGuarded()
	if err := fence.raise(left); err != nil {
		return fmt.Errorf("rules of the packet filter: %w", err)
	}
	n.fence = fence
	if err := n.forgetFlows(n.prefix()); err != nil {
		return fmt.Errorf("connections of the last run: %w", err)
	}
	if n.routes, err = n.startForwarding(left); err != nil {
		return fmt.Errorf("forwarding: %w", err)
	}
	return nil
}

// Close closes every network and removes all that the server had on the host.
func (n *Nets) Close() error {
	n.mu.Lock()
	closed := n.closed
	n.closed = true
	n.mu.Unlock()
	if closed {
		return nil
	}
	n.making.Wait()
	for _, net := range n.all() {
		net.release()
	}
	if err := n.shut(); err != nil {
		return lambent.Errorf(lambent.Internal, "netns.Close", "cannot remove all that sandboxes had of the host's network: %w", err)
	}
	return nil
}

func (n *Nets) all() []*Net {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.open))
}

// shut undoes start, as far as it came. While there are interfaces there is a
// fence, and while others forward for our sake.
func (n *Nets) shut() error {
	if n.host == nil {
		return nil
	}
	err := n.removeLinks()
	if err == nil && n.fence != nil {
		err = n.forgetFlows(n.prefix())
	}
	if err == nil && n.routes != nil {
		err = n.routes.stop()
	}
	if err == nil && n.fence != nil {
		err = n.fence.remove()
	}
	n.host.Close()
	n.home.Close()
	return err
}
