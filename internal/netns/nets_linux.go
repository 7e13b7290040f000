package netns

import (
	"log/slog"
	"os"
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
	var err error
	if n.home, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "cannot open the host's network namespace: %w", err)
	}
	if n.host, err = netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER); err != nil {
		n.home.Close()
		return nil, lambent.Errorf(lambent.Internal, op, "cannot speak to the kernel's network: %w", err)
	}
	if err := n.removeLinks(); err != nil {
		n.release()
		return nil, lambent.Errorf(lambent.Internal, op, "cannot remove what is left of the last run: %w", err)
	}
	n.fence = n.newFence()
	left := n.fence.leftGuarded()
	if err := n.fence.raise(left); err != nil {
		n.release()
		return nil, lambent.Errorf(lambent.Internal, op, "cannot load the rules of the packet filter (nf_tables): %w", err).
			WithHint("modprobe -a nf_tables nft_fib_inet nft_masq nft_connlimit nft_reject_inet veth")
	}
	if n.routes, err = n.startForwarding(left); err != nil {
		n.release()
		return nil, lambent.Errorf(lambent.Internal, op, "cannot make the host forward what functions send: %w", err)
	}
	n.warnOfOthers()
	return n, nil
}

// Close closes every network and removes all that the server had on the host.
func (n *Nets) Close() error {
	n.mu.Lock()
	n.closed = true
	open := n.open
	n.open = nil
	n.mu.Unlock()
	for _, net := range open {
		net.Close()
	}
	err := n.removeLinks()
	if err == nil { // while there are interfaces there is a fence, and while interfaces forward
		err = n.routes.stop()
	}
	if err == nil {
		err = n.fence.remove()
	}
	n.release()
	if err != nil {
		return lambent.Errorf(lambent.Internal, "netns.Close", "cannot remove the sandboxes' interfaces and rules: %w", err)
	}
	return nil
}

func (n *Nets) release() {
	n.host.Close()
	n.home.Close()
}
