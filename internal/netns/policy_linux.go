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

// A Policy is what the function of one sandbox may reach, where that is not the
// default. It ends with the next Reset of its network.
type Policy struct {
	net      *Net
	internet bool
	ranges   []lambent.Destination
	names    map[string][]uint16 // hosts, and their ports; 0: all
	opened   map[opening]bool    // guarded by the network's lock
}

// An opening is an address that a name has led to; port 0 is all.
type opening struct {
	address netip.Addr
	port    uint16
}

// Allow sets what the function may connect to: before its code runs, and once
// before the next Reset. The default needs no call, costs nothing and is nil.
func (n *Net) Allow(network lambent.Network) (*Policy, error) {
	const op = "netns.Allow"
	destinations, err := network.Destinations()
	if err != nil || network.IsDefault() {
		return nil, err
	}
	p := &Policy{net: n, internet: network.Internet(), names: map[string][]uint16{}, opened: map[opening]bool{}}
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
		return nil, lambent.Errorf(lambent.Invalid, op, "the network is closed, or has its policy")
	}
	if err := n.nets.fence.apply(n.address(), p); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "cannot load the function's network policy: %w", err)
	}
	n.policy = p
	return p, nil
}

// forget brings back the default.
func (n *Net) forget() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.policy == nil {
		return nil
	}
	err := n.nets.fence.withdraw(n.address(), n.policy)
	if err == nil {
		n.policy = nil
	}
	return err
}

func (n *Net) address() netip.Addr { return n.nets.address(n.slot) }

// Open lets the function reach what a name of its policy is said to lead to, at
// the ports that the policy has for it. Nobody is trusted with that: the error is
// Forbidden for a name that the policy does not have, and where no address is one
// that names may open; if some are not, they are left out. It is Unavailable if
// the network is another sandbox's meanwhile, or has none.
func (p *Policy) Open(name string, addresses []netip.Addr) error {
	const op = "netns.Open"
	if p == nil || p.names[name] == nil {
		return lambent.Errorf(lambent.Forbidden, op, "the network policy does not have the name %.255q", name)
	}
	allowed := byName(addresses)
	if len(allowed) == 0 {
		return lambent.Errorf(lambent.Forbidden, op, "%s leads to %v, which is not for names", name, addresses[:min(len(addresses), 16)])
	}
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.net.policy != p || p.net.closed {
		return lambent.Errorf(lambent.Unavailable, op, "the sandbox is gone")
	}
	var fresh []opening
	for _, a := range allowed {
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
		return lambent.Errorf(lambent.TooLarge, op, "names have led to over %d addresses", maxOpened)
	}
	if err := p.net.nets.fence.open(p.net.address(), fresh); err != nil {
		return lambent.Errorf(lambent.Internal, op, "cannot open an address: %w", err)
	}
	for _, o := range fresh {
		p.opened[o] = true
	}
	return nil
}

// byName returns those of the addresses that a name may open, each once. The host's own
// the fence refuses.
func byName(found []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range found {
		if a.Is4() && lambent.ByName(a) && !addresses.Contains(a) {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// A judge is a chain of rules, for all sandboxes whose policies have the same.
// Sandboxes lead to it by a number, so that one more or less of them is nothing
// that the kernel would have to check all chains for.
type judge struct {
	number    uint32
	chain     *nftables.Chain
	sandboxes int
}

// rules is what tells a policy's judge from others: ranges, and whether there are
// names; which ones is not the rules' to know.
func (p *Policy) rules() string { return fmt.Sprint(p.ranges, len(p.names) > 0, p.internet) }

// apply makes the sandbox's packets be judged by the policy alone.
func (f *fence) apply(sandbox netip.Addr, p *Policy) error {
	f.judging.Lock()
	defer f.judging.Unlock()
	j := f.judges[p.rules()]
	if j == nil {
		f.last++
		j = &judge{number: f.last, chain: &nftables.Chain{Table: f.table, Name: fmt.Sprintf("policy%d", f.last)}}
	}
	err := f.change(func(c *nftables.Conn) error {
		if j.sandboxes == 0 {
			f.appoint(c, j, p)
			if err := c.SetAddElements(f.verdicts, []nftables.SetElement{j.verdict()}); err != nil {
				return err
			}
		}
		return c.SetAddElements(f.policies, []nftables.SetElement{{Key: sandbox.AsSlice(), Val: j.key()}})
	})
	if err == nil {
		j.sandboxes++
		f.judges[p.rules()] = j
	}
	return err
}

// appoint writes the rules of a judge.
func (f *fence) appoint(c *nftables.Conn, j *judge, p *Policy) {
	c.AddChain(j.chain)
	rule := func(parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: f.table, Chain: j.chain, Exprs: slices.Concat(parts...)})
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
	// A name may lead to private networks, where the owner has hosts, but never to
	// this machine: not everybody who answers for a name is trusted with it.
	if len(p.names) > 0 {
		rule(forwarded, jump(expr.VerdictJump, f.named))
	}
	if p.internet {
		rule(forwarded, destination(1), notIn(f.special, 1), accept)
	}
	rule(jump(expr.VerdictGoto, f.refuse))
}

// withdraw undoes apply, and every open since.
func (f *fence) withdraw(sandbox netip.Addr, p *Policy) error {
	f.judging.Lock()
	defer f.judging.Unlock()
	j := f.judges[p.rules()]
	err := f.change(func(c *nftables.Conn) error {
		if err := c.SetDeleteElements(f.policies, []nftables.SetElement{{Key: sandbox.AsSlice(), Val: j.key()}}); err != nil {
			return err
		}
		for set, list := range f.elements(sandbox, slices.Collect(maps.Keys(p.opened))) {
			if err := c.SetDeleteElements(set, list); err != nil {
				return err
			}
		}
		if j.sandboxes > 1 {
			return nil
		}
		err := c.SetDeleteElements(f.verdicts, []nftables.SetElement{j.verdict()})
		c.FlushChain(j.chain)
		c.DelChain(j.chain)
		return err
	})
	if err != nil {
		return err
	}
	if j.sandboxes--; j.sandboxes == 0 {
		delete(f.judges, p.rules())
	}
	return nil
}

func (j *judge) key() []byte { return binary.NativeEndian.AppendUint32(nil, j.number) }

func (j *judge) verdict() nftables.SetElement {
	return nftables.SetElement{Key: j.key(), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: j.chain.Name}}
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
