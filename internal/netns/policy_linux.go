package netns

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"lambent"
)

// maxOpened is how many addresses the names of one sandbox's policy may lead to
// in its life.
const maxOpened = 1024

// A policy is what the function of a network may reach, where that is not the
// default.
type policy struct {
	ranges []lambent.Destination
	names  map[string][]uint16 // hosts, and their ports; 0: all
	opened map[opening]bool
}

// An opening is an address that a name has led to; port 0 is all.
type opening struct {
	address netip.Addr
	port    uint16
}

// Allow sets what the function may connect to: before its code runs, and once
// before the next Reset. The default needs no call, and costs nothing.
func (n *Net) Allow(network lambent.Network) error {
	const op = "netns.Allow"
	destinations, err := network.Destinations()
	if err != nil || network.IsDefault() {
		return err
	}
	p := &policy{names: map[string][]uint16{}, opened: map[opening]bool{}}
	for _, d := range destinations {
		if d.Host == "" {
			p.ranges = append(p.ranges, d)
		} else {
			p.names[d.Host] = append(p.names[d.Host], d.Port)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.policy != nil {
		return lambent.Errorf(lambent.Invalid, op, "the network is closed, or has its policy")
	}
	if err := n.nets.fence.apply(n.slot, n.address(), p); err != nil {
		return lambent.Errorf(lambent.Internal, op, "cannot load the function's network policy: %w", err)
	}
	n.policy = p
	return nil
}

func (n *Net) current() *policy {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.policy
}

// forget brings back the default.
func (n *Net) forget() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.policy == nil {
		return nil
	}
	err := n.nets.fence.withdraw(n.slot, n.address(), n.policy)
	if err == nil {
		n.policy = nil
	}
	return err
}

func (n *Net) address() netip.Addr { return n.nets.address(n.slot) }

// open lets the function reach what a name of its policy leads to. It fails if
// the network is another's meanwhile.
func (n *Net) open(p *policy, name string, addresses []netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.policy != p {
		return fmt.Errorf("the sandbox is gone")
	}
	var fresh []opening
	for _, a := range addresses {
		for _, port := range p.names[name] {
			if o := (opening{a, port}); !p.opened[o] {
				fresh = append(fresh, o)
			}
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if len(p.opened)+len(fresh) > maxOpened {
		return fmt.Errorf("names have led to over %d addresses", maxOpened)
	}
	if err := n.nets.fence.open(n.address(), fresh); err != nil {
		return err
	}
	for _, o := range fresh {
		p.opened[o] = true
	}
	return nil
}

// apply makes the sandbox's packets be judged by the policy alone.
func (f *fence) apply(slot int, sandbox netip.Addr, p *policy) error {
	return f.change(func(c *nftables.Conn) error {
		chain := f.chainOf(slot, p)
		if chain != f.refuse {
			c.AddChain(chain)
		}
		rule := func(parts ...[]expr.Any) {
			c.AddRule(&nftables.Rule{Table: f.table, Chain: chain, Exprs: slices.Concat(parts...)})
		}
		for _, d := range p.ranges {
			if d.Port == 0 {
				rule(destination(1), isIn(d.Prefix), accept)
				continue
			}
			for _, proto := range ports {
				rule(protocol(proto), destination(1), isIn(d.Prefix), port(1), isPort(d.Port), accept)
			}
		}
		// A name may lead to private networks, where the owner has hosts, but never
		// to this machine: not everybody who answers for a name is trusted with it.
		if len(p.names) > 0 {
			rule(forwarded, jump(expr.VerdictJump, f.named))
		}
		if chain != f.refuse {
			rule(jump(expr.VerdictGoto, f.refuse))
		}
		return c.SetAddElements(f.policies, judgedBy(sandbox, chain))
	})
}

// withdraw undoes apply, and every open since.
func (f *fence) withdraw(slot int, sandbox netip.Addr, p *policy) error {
	return f.change(func(c *nftables.Conn) error {
		chain := f.chainOf(slot, p)
		if err := c.SetDeleteElements(f.policies, judgedBy(sandbox, chain)); err != nil {
			return err
		}
		if chain != f.refuse {
			c.FlushChain(chain)
			c.DelChain(chain)
		}
		for set, list := range f.elements(sandbox, slices.Collect(maps.Keys(p.opened))) {
			if err := c.SetDeleteElements(set, list); err != nil {
				return err
			}
		}
		return nil
	})
}

// open adds addresses to what the names of the sandbox's policy have led to.
func (f *fence) open(sandbox netip.Addr, fresh []opening) error {
	return f.change(func(c *nftables.Conn) error {
		for set, list := range f.elements(sandbox, fresh) {
			if err := c.SetAddElements(set, list); err != nil {
				return err
			}
		}
		return nil
	})
}

// chainOf is where a policy's rules are: a policy that opens nothing has none.
func (f *fence) chainOf(slot int, p *policy) *nftables.Chain {
	if len(p.ranges) == 0 && len(p.names) == 0 {
		return f.refuse
	}
	return &nftables.Chain{Table: f.table, Name: fmt.Sprintf("slot%d", slot)}
}

func judgedBy(sandbox netip.Addr, chain *nftables.Chain) []nftables.SetElement {
	return []nftables.SetElement{{Key: sandbox.AsSlice(), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain.Name}}}
}

// elements are openings as the sets have them.
func (f *fence) elements(sandbox netip.Addr, list []opening) map[*nftables.Set][]nftables.SetElement {
	out := map[*nftables.Set][]nftables.SetElement{}
	for _, o := range list {
		key, set := slices.Concat(sandbox.AsSlice(), o.address.AsSlice()), f.hosts
		if o.port != 0 {
			key, set = append(binary.BigEndian.AppendUint16(key, o.port), 0, 0), f.services
		}
		out[set] = append(out[set], nftables.SetElement{Key: key})
	}
	return out
}

// isPort matches a port in the first register.
func isPort(port uint16) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)}}
}
