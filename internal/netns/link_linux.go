package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Inside, a function finds its own loopback, the platform at an address of the
// loopback that is the same everywhere, and one interface.
const (
	platform = "169.254.100.1"
	inside   = "eth0"
)

var (
	// No one has this address: the way out is named by it, and its neighbour
	// entry says where that leads. So the host needs no address on its side.
	gateway = netip.MustParseAddr("169.254.100.2")

	// Each link has two ends and nothing else, so all may have the same.
	outsideMAC = net.HardwareAddr{0x02, 'l', 'a', 'm', 0, 1}
	insideMAC  = net.HardwareAddr{0x02, 'l', 'a', 'm', 0, 2}
)

// addresses is what all servers' networks take theirs from. 198.18.0.0/15 is set
// aside for measurements (RFC 2544), so that it is no one's private range and not
// on the internet either; its lower half is what some proxies fake addresses
// with.
var addresses = netip.MustParsePrefix("198.19.0.0/16")

// prefix is the part of addresses that is this server's.
func (n *Nets) prefix() netip.Prefix { return netip.PrefixFrom(n.address(0), 20) }

func (n *Nets) address(slot int) netip.Addr {
	a := addresses.Addr().As4()
	at := n.server*MaxSlots + slot
	a[2], a[3] = byte(at>>8), byte(at)
	return netip.AddrFrom4(a)
}

// names begin with this; the fence knows the server's interfaces by it.
func (n *Nets) linkPrefix() string { return fmt.Sprintf("lam%d-", n.server) }

func (n *Nets) linkName(slot int) string { return fmt.Sprintf("%s%d", n.linkPrefix(), slot) }

// group is the number by which the kernel removes all of a server's interfaces at
// once; one by one each would take 30 ms, and everybody else's turn.
func (n *Nets) group() uint32 { return 'l'<<24 | 'a'<<16 | 'm'<<8 | uint32(n.server) }

// link lays the wire between the host and a namespace: two ends, no bridge, so
// that no sandbox is another's neighbour. It must be called in the namespace.
// Neighbours are told and not asked for: nothing that could be forged.
func (n *Nets) link(slot int, ns *os.File) (index int, err error) {
	in, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return 0, err
	}
	defer in.Close()

	outside := netlink.NewVeth(netlink.NewLinkAttrs())
	outside.Name, outside.HardwareAddr, outside.Group = n.linkName(slot), outsideMAC, n.group()
	outside.NumTxQueues, outside.NumRxQueues = 1, 1
	outside.PeerName, outside.PeerHardwareAddr, outside.PeerNamespace = inside, insideMAC, netlink.NsFd(ns.Fd())
	outside.PeerNumTxQueues, outside.PeerNumRxQueues = 1, 1
	if err := n.host.LinkAdd(outside); errors.Is(err, unix.EEXIST) {
		// The slot's last one is on its way out with its namespace: out of the way.
		if err := n.setAside(slot); err != nil {
			return 0, err
		}
		outside.Index = 0
		if err := n.host.LinkAdd(outside); err != nil {
			return 0, fmt.Errorf("make a link: %w", err)
		}
	} else if err != nil {
		return 0, fmt.Errorf("make a link: %w", err)
	}
	index = outside.Index

	loopback := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}}
	end, err := in.LinkByName(inside)
	if err != nil {
		return 0, err
	}
	out := &netlink.Route{LinkIndex: end.Attrs().Index, Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
	back := &netlink.Route{LinkIndex: index, Dst: single(n.address(slot)), Scope: netlink.SCOPE_LINK}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"loopback", func() error { return in.LinkSetUp(loopback) }}, // which gives it 127.0.0.1
		{"platform's address", func() error {
			return in.AddrAdd(loopback, &netlink.Addr{IPNet: single(netip.MustParseAddr(platform))})
		}},
		{"address", func() error { return in.AddrAdd(end, &netlink.Addr{IPNet: single(n.address(slot))}) }},
		{"link", func() error { return in.LinkSetUp(end) }},
		{"neighbour", func() error { return in.NeighSet(neighbour(end.Attrs().Index, gateway, outsideMAC)) }},
		{"route", func() error { return in.RouteAdd(out) }},
		{"host's IPv6", func() error { return noIPv6(n.host, outside) }},
		{"host's forwarding", func() error { return n.routes.ours(outside.Name) }},
		{"host's link", func() error { return n.host.LinkSetUp(outside) }},
		{"host's neighbour", func() error { return n.host.NeighSet(neighbour(index, n.address(slot), insideMAC)) }},
		{"host's route", func() error { return n.host.RouteReplace(back) }},
		{"carrier", func() error { return carries(in, end.Attrs().Index) }},
	} {
		if err := step.do(); err != nil {
			return 0, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return index, nil
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func neighbour(index int, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, IP: a.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT}
}

// noIPv6 keeps the kernel from giving an interface an address and speaking from it.
func noIPv6(h *netlink.Handle, link netlink.Link) error {
	const none = 1 // IN6_ADDR_GEN_MODE_NONE
	err := h.LinkSetIP6AddrGenMode(link, none)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) { // the host has no IPv6 at all
		return nil
	}
	return err
}

// carries waits until the end that was up before the other one can send: the
// kernel gets to that in its own time, and until then drops what is sent, which a
// function would notice as a second that is gone.
func carries(h *netlink.Handle, index int) error {
	for range 1000 {
		link, err := h.LinkByIndex(index)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return err
		}
		time.Sleep(time.Millisecond) // kernels before 6.8; others have done it when they answer
	}
	return errors.New("the link does not come up")
}

// setAside renames an interface of this server that no one uses any more.
func (n *Nets) setAside(slot int) error {
	old, err := n.host.LinkByName(n.linkName(slot))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // gone meanwhile
	} else if err != nil {
		return err
	}
	if err := n.host.LinkSetDown(old); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	err = n.host.LinkSetName(old, fmt.Sprintf("%s~%x", n.linkPrefix(), old.Attrs().Index))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// removeLinks removes every interface of the server, and with them their routes.
func (n *Nets) removeLinks() error {
	return n.within(n.home, func() error {
		req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(n.group())))
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		if errors.Is(err, unix.ENODEV) { // there was none
			return nil
		}
		return err
	})
}
