package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// forwarding lets the host pass packets on for sandboxes, and for nobody else.
// A host that is a router (ip_forward) stays one. On any other, interfaces have
// to forward so that answers find their way back: each that we turn on is in the
// fence's set of those, and the fence drops whatever else would then be passed
// on. ip_forward itself stays as it is, because that is how others (Docker, a
// hypervisor, the administrator) say that the host is to be a router: then ours
// are theirs, and the set is emptied.
type forwarding struct {
	nets   *Nets
	events *nl.NetlinkSocket // what the kernel tells of interfaces' settings

	stopping atomic.Bool
	done     chan struct{}

	mu sync.Mutex   // guards what follows, and is held while settings are changed
	on map[int]bool // interfaces that we turned on, by index
}

const ipForward = "/proc/sys/net/ipv4/ip_forward"

func setting(link string) string { return "/proc/sys/net/ipv4/conf/" + link + "/forwarding" }

// startForwarding needs the fence, and takes over what the last run turned on.
func (n *Nets) startForwarding(left map[int]bool) (*forwarding, error) {
	f := &forwarding{nets: n, done: make(chan struct{}), on: left}
	err := n.within(n.home, func() (err error) {
		f.events, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_NETCONF)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := f.settle(); err != nil {
		f.events.Close()
		return nil, err
	}
	go f.watch()
	return f, nil
}

// settle brings every interface to where it belongs.
func (f *forwarding) settle() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nets.within(f.nets.home, func() error {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		if isOn(ipForward) {
			err := f.nets.fence.guard(f.on, false)
			if err == nil {
				clear(f.on)
			}
			return err
		}
		var failed error
		for _, link := range links {
			failed = errors.Join(failed, f.turnOn(link.Index, link.Name))
		}
		return failed
	})
}

// turnOn makes an interface forward, behind the guard if it is not ours. It is
// called on the host's thread, with mu held.
func (f *forwarding) turnOn(index int, name string) error {
	if ours := strings.HasPrefix(name, f.nets.linkPrefix()); !ours {
		if name == "lo" || strings.HasPrefix(name, "lam") { // another server's
			return nil
		}
		if isOn(setting(name)) && !f.on[index] { // as somebody wants it
			return nil
		}
		if err := f.nets.fence.guard(map[int]bool{index: true}, true); err != nil {
			return err
		}
		f.on[index] = true
	}
	return set(setting(name), "1")
}

// watch follows what others change, until the socket is closed.
func (f *forwarding) watch() {
	defer close(f.done)
	for {
		messages, _, err := f.events.Receive()
		lost := err != nil && !errors.Is(err, unix.ENOBUFS)
		switch {
		case f.stopping.Load():
			return
		case err == nil:
			for _, m := range messages {
				err = errors.Join(err, f.changed(m.Data))
			}
		case !lost: // there was more than the socket holds
			err = f.settle()
		}
		if err != nil {
			f.nets.log.Error("cannot keep up the forwarding that functions need to reach the network", "error", err)
		}
		if lost {
			return
		}
	}
}

// changed reads a message about one interface, or about all of them.
func (f *forwarding) changed(data []byte) error {
	const (
		netconfLength  = 4 // of struct netconfmsg, padded
		netconfIndex   = 1 // NETCONFA_IFINDEX
		netconfForward = 2 // NETCONFA_FORWARDING
		all            = -1
	)
	if len(data) < netconfLength {
		return nil
	}
	data = data[netconfLength:]
	index, known := number(attribute(data, netconfIndex))
	on, told := number(attribute(data, netconfForward))
	switch {
	case !known || !told:
		return nil
	case index == all:
		return f.settle()
	case on == 1 || index < 0: // those are of no interface
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nets.within(f.nets.home, func() error {
		link, err := net.InterfaceByIndex(index)
		if err != nil || isOn(ipForward) {
			return nil // gone again, or somebody's wish
		}
		return f.turnOn(index, link.Name)
	})
}

func number(value []byte) (n int, ok bool) {
	if len(value) < 4 {
		return 0, false
	}
	return int(int32(binary.NativeEndian.Uint32(value))), true
}

// ours turns on an interface of a sandbox, which must not wait for watch.
func (f *forwarding) ours(name string) error {
	return f.nets.within(f.nets.home, func() error { return set(setting(name), "1") })
}

// stop leaves interfaces as they were found.
func (f *forwarding) stop() error {
	f.stopping.Store(true)
	f.events.Close()
	<-f.done
	return f.nets.within(f.nets.home, func() error {
		var failed error
		for index := range f.on {
			if link, err := net.InterfaceByIndex(index); err == nil && !isOn(ipForward) {
				failed = errors.Join(failed, set(setting(link.Name), "0"))
			}
		}
		return failed
	})
}

func isOn(path string) bool {
	b, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// set writes a setting of the kernel; one of an interface that is gone is set.
func set(path, value string) error {
	err := os.WriteFile(path, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// guard adds interfaces to those through which nothing is forwarded but for
// sandboxes, or takes them away.
func (f *fence) guard(links map[int]bool, on bool) error {
	if len(links) == 0 {
		return nil
	}
	return f.change(func(c *nftables.Conn) error {
		if on {
			return c.SetAddElements(f.guarded, indexes(links))
		}
		return c.SetDeleteElements(f.guarded, indexes(links))
	})
}

func indexes(links map[int]bool) []nftables.SetElement {
	var out []nftables.SetElement
	for index := range links {
		out = append(out, nftables.SetElement{Key: binary.NativeEndian.AppendUint32(nil, uint32(index))})
	}
	return out
}

// leftGuarded are the interfaces that the server's last run guarded, if it was
// not closed.
func (f *fence) leftGuarded() map[int]bool {
	left := map[int]bool{}
	c, err := nftables.New(nftables.WithNetNSFd(int(f.home.Fd())))
	if err != nil {
		return left
	}
	elements, _ := c.GetSetElements(f.guarded) // fails where there is no table
	for _, e := range elements {
		left[int(binary.NativeEndian.Uint32(e.Key))] = true
	}
	return left
}

// warnOfOthers says which other packet filters drop what is forwarded unless
// told otherwise, as Docker's, ufw's and firewalld's do: accepting is not ours to
// do in their stead.
func (n *Nets) warnOfOthers() {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.home.Fd())))
	if err != nil {
		return
	}
	chains, err := c.ListChains()
	if err != nil {
		return
	}
	for _, chain := range chains {
		forwards := chain.Hooknum != nil && *chain.Hooknum == *nftables.ChainHookForward && chain.Type == nftables.ChainTypeFilter
		if forwards && chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop && chain.Table.Family != nftables.TableFamilyIPv6 {
			n.log.Warn("another packet filter drops what is forwarded: functions reach the network only if it lets them",
				"chain", fmt.Sprintf("%s %s", chain.Table.Name, chain.Name),
				"allow", "iptables -I FORWARD -i lam+ -j ACCEPT; iptables -I FORWARD -o lam+ -j ACCEPT")
		}
	}
}
