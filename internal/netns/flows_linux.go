package netns

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// forgetFlows removes what the host remembers of connections from there. Of a
// single address the kernel picks them out of everybody's (since 5.8; before, it
// shows all, and they are picked out here).
func (n *Nets) forgetFlows(from netip.Prefix) error {
	err := n.within(n.home, func() error {
		list := flowRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
		if from.IsSingleIP() {
			address := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
			address.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(nl.CTA_IP_V4_SRC, from.Addr().AsSlice())
			const byFlags, source = 1, 1 // CTA_FILTER_ORIG_FLAGS: CTA_FILTER_FLAG_CTA_IP_SRC
			filter := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
			filter.AddRtAttr(byFlags, nl.Uint32Attr(source))
			list.AddData(address)
			list.AddData(filter)
		}
		flows, err := list.Execute(unix.NETLINK_NETFILTER, 0)
		if err != nil {
			return err
		}
		for _, flow := range flows {
			tuple := attribute(flow[min(nl.SizeofNfgenmsg, len(flow)):], nl.CTA_TUPLE_ORIG)
			source, _ := netip.AddrFromSlice(attribute(attribute(tuple, nl.CTA_TUPLE_IP), nl.CTA_IP_V4_SRC))
			if !from.Contains(source) {
				continue
			}
			forget := flowRequest(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
			forget.AddData(nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, tuple))
			if _, err := forget.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the kernel's connections (nf_conntrack_netlink): %w", err)
	}
	return nil
}

const ctaFilter = 25 // CTA_FILTER

func flowRequest(command, flags int) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|command, flags)
	r.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	return r
}

// attribute returns the value of one of several attributes, or nil.
func attribute(b []byte, kind uint16) []byte {
	attributes, _ := nl.ParseRouteAttr(b) // what is broken has none
	for _, a := range attributes {
		if a.Attr.Type&^unix.NLA_F_NESTED == kind {
			return a.Value
		}
	}
	return nil
}
