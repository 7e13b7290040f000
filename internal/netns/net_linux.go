package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"

	"lambent"
)

// ErrUsed is what Reset returns for a network whose function has sent something
// out of it. It must be closed: what the kernel learned on the way, and the world's
// answers, stay with it for minutes.
var ErrUsed error = lambent.Errorf(lambent.Stale, "netns.Reset", "the network was used: close it and make another")

// A Net is the network of one sandbox at a time. Its methods may be called
// concurrently.
type Net struct {
	nets  *Nets
	slot  int
	index int      // of the interface on the host
	file  *os.File // the namespace
	doors map[int]*door
	names *names

	mu     sync.Mutex // guards what follows, and is held while the fence changes for this network
	policy *Policy    // nil: the default
	closed bool
}

// Make makes the network of a slot, 0 to 4095, that no open one has. It is a
// matter of milliseconds; do it where nobody waits.
func (n *Nets) Make(slot int) (*Net, error) {
	const op = "netns.Make"
	if slot < 0 || slot >= MaxSlots {
		return nil, lambent.Errorf(lambent.Invalid, op, "slot %d is outside 0 to %d", slot, MaxSlots-1)
	}
	made := &Net{nets: n, slot: slot}
	last, err := n.claim(made)
	if err != nil {
		return nil, err
	}
	defer n.making.Done()
	if last != nil { // whose Close did not do all
		if err := last.clean(true); err != nil {
			n.put(last)
			return nil, err
		}
	}
	if made.file, err = n.unshared(made.furnish); err != nil {
		made.Close()
		return nil, lambent.Errorf(lambent.Internal, op, "cannot make the network of slot %d: %w", slot, err)
	}
	return made, nil
}

// claim puts a network into its slot, in the place of one that is closed and left
// something behind.
func (n *Nets) claim(made *Net) (last *Net, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, lambent.Errorf(lambent.Unavailable, "netns.Make", "the networks are closed")
	}
	last = n.open[made.slot]
	if last != nil && !last.isClosed() {
		return nil, lambent.Errorf(lambent.Exists, "netns.Make", "slot %d has a network", made.slot)
	}
	n.open[made.slot] = made
	n.making.Add(1)
	return last, nil
}

func (n *Nets) put(net *Net) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[net.slot] = net
}

// furnish puts into the new namespace, in which it is called, all that it has.
func (n *Net) furnish(ns *os.File) error {
	// Functions get no IPv6 beyond their own loopback: a second family to fence,
	// for hosts that mostly have none.
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Nor sockets in their last minute, whose addresses the next function could list.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("0"), 0); err != nil {
		return err
	}
	if n.index, err = n.nets.link(n.slot, ns); err != nil {
		return err
	}
	n.doors = map[int]*door{}
	for _, port := range doorPorts {
		if n.doors[port], err = openDoor(port); err != nil {
			return err
		}
	}
	n.names, err = openNames()
	return err
}

// File is the namespace, for setns and clone. It belongs to the Net.
func (n *Net) File() *os.File { return n.file }

// Dial connects to a port of 127.0.0.1 inside.
func (n *Net) Dial(ctx context.Context, port int) (net.Conn, error) {
	var conn net.Conn
	err := n.nets.within(n.file, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		return err
	})
	if err != nil {
		return nil, lambent.Errorf(lambent.Unavailable, "netns.Dial", "cannot connect to port %d in the sandbox: %w", port, err)
	}
	return conn, nil
}

// doorPorts are those of the platform inside, at 169.254.100.1: as the Runtime API has it on
// Lambda, and for AWS's services.
var doorPorts = []int{9001, 9002}

// Listen returns the listener of the platform inside, at one of its ports. The
// socket is as old as the network: closing the listener stops accepting and ends
// the connections that it accepted. There is one for each port at a time; who connects
// to one that never had any is refused.
func (n *Net) Listen(port int) (net.Listener, error) {
	d := n.doors[port]
	if d == nil {
		return nil, lambent.Errorf(lambent.Invalid, "netns.Listen", "port %d is not one of the platform's inside: %v", port, doorPorts)
	}
	return d.listen()
}

// Reset makes the network as new, for another sandbox; the processes of the last
// must be dead. After an error, [ErrUsed] among them, the network must be closed.
func (n *Net) Reset() error {
	const op = "netns.Reset"
	if used, err := n.used(); err != nil {
		return lambent.Errorf(lambent.Internal, op, "cannot tell whether the network was used: %w", err)
	} else if used {
		return ErrUsed
	}
	err := errors.Join(n.names.reset(), n.forget())
	for _, d := range n.doors {
		err = errors.Join(err, d.reset())
	}
	if err != nil {
		return lambent.Errorf(lambent.Internal, op, "cannot close what was open to the sandbox: %w", err)
	}
	return nil
}

// used says whether anything has come out of the namespace.
func (n *Net) used() (bool, error) {
	link, err := n.nets.host.LinkByIndex(n.index)
	if err != nil {
		return false, err
	}
	stats := link.Attrs().Statistics
	if stats == nil {
		return false, fmt.Errorf("interface %s has no counters", link.Attrs().Name)
	}
	return stats.RxPackets > 0, nil
}

// Close gives the network up. The kernel removes the namespace and its interface
// in its own time, as soon as no process and no connection is in it.
func (n *Net) Close() error {
	used, first := n.release()
	if !first {
		return nil
	}
	if err := n.clean(used); err != nil {
		return err // and the slot is as it is until Make has cleaned it
	}
	n.nets.leave(n)
	return nil
}

// clean removes what the host has of the network: its policy, and what the world
// would still have to say to it, which is not for the slot's next.
func (n *Net) clean(used bool) error {
	err := n.forget()
	if used {
		err = errors.Join(err, n.nets.forgetFlows(netip.PrefixFrom(n.address(), 32)))
	}
	if err != nil {
		return lambent.Errorf(lambent.Internal, "netns.Close", "cannot remove what the host has of slot %d: %w", n.slot, err)
	}
	return nil
}

func (n *Net) isClosed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.closed
}

// release closes what is inside, once.
func (n *Net) release() (used, first bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false, false
	}
	n.closed = true
	if n.index > 0 {
		out, err := n.used()
		used = out || err != nil
	}
	for _, d := range n.doors {
		d.close()
	}
	if n.names != nil {
		n.names.close()
	}
	if n.file != nil {
		if used {
			_ = n.nets.within(n.file, hangUp) // without it the namespace only stays longer
		}
		n.file.Close()
	}
	return used, true
}

// hangUp makes the kernel give up what it still has to tell the world for processes
// that are dead: once more, and not for two minutes, for which the connections would
// keep the namespace that it is called in.
func hangUp() error {
	return os.WriteFile("/proc/sys/net/ipv4/tcp_orphan_retries", []byte("1"), 0)
}

func (n *Nets) leave(net *Net) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open[net.slot] == net { // and not one that was made meanwhile
		delete(n.open, net.slot)
	}
}
