package netns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"lambent"
)

// maxFlows is how many connections of one sandbox the host keeps track of at a
// time: as many as it may have sockets. The host's table of them is everybody's.
const maxFlows = 1024

// Numbers of the kernel's and of TCP's.
const (
	connlimitOver = 1 // NFT_CONNLIMIT_F_INV: match above the count
	tcpSYN        = 2 // flag
	tcpMaxSegment = 2 // option
)

// A fence is the server's table of the host's packet filter. It judges by where
// a packet comes from and where it goes, each packet anew, so that a change takes
// effect at once. What is not from or to an interface of ours passes by.
type fence struct {
	home   *os.File
	prefix string // of the names of our interfaces
	from   netip.Prefix

	table    *nftables.Table
	policies *nftables.Set // sandbox -> number of its judge; the default has none
	verdicts *nftables.Set // number -> chain
	hosts    *nftables.Set // sandbox, address: what names have led to
	services *nftables.Set // sandbox, address, port
	guarded  *nftables.Set // interfaces that forward for our sake alone
	special  *nftables.Set // addresses that are not of the internet
	named    *nftables.Chain
	refuse   *nftables.Chain

	judging sync.Mutex // guards what follows, over the whole of apply and withdraw; before mu
	judges  map[string]*judge
	last    uint32 // number of a judge

	mu   sync.Mutex // guards what follows, over the whole of a change
	conn *nftables.Conn
}

func (n *Nets) newFence() *fence {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: fmt.Sprintf("lambent%d", n.server)}
	return &fence{
		home: n.home, prefix: n.linkPrefix(), from: n.prefix(), table: table, judges: map[string]*judge{},
		policies: &nftables.Set{Table: table, Name: "policies", IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeMark},
		verdicts: &nftables.Set{Table: table, Name: "verdicts", IsMap: true, KeyType: nftables.TypeMark, DataType: nftables.TypeVerdict},
		hosts: &nftables.Set{Table: table, Name: "hosts", Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr)},
		services: &nftables.Set{Table: table, Name: "services", Concatenation: true,
			KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetService)},
		guarded: &nftables.Set{Table: table, Name: "guarded", KeyType: nftables.TypeIFIndex, KeyByteOrder: binaryutil.NativeEndian},
		special: &nftables.Set{Table: table, Name: "special", KeyType: nftables.TypeIPAddr, Interval: true, Constant: true},
		named:   &nftables.Chain{Table: table, Name: "named"},
		refuse:  &nftables.Chain{Table: table, Name: "refuse"},
	}
}

// change makes one atomic alteration. The connection is kept: closing one waits
// for the kernel to free what was deleted by it, which takes it milliseconds.
func (f *fence) change(alter func(c *nftables.Conn) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn == nil {
		c, err := nftables.New(nftables.WithNetNSFd(int(f.home.Fd())), nftables.AsLasting())
		if err != nil {
			return err
		}
		f.conn = c
	}
	err := alter(f.conn)
	if err == nil {
		err = f.conn.Flush()
	}
	if err != nil { // it may have more to say, which would be taken for the next answer
		_ = f.conn.CloseLasting()
		f.conn = nil
	}
	return err
}

func (f *fence) remove() error {
	err := f.change(func(c *nftables.Conn) error {
		c.AddTable(f.table) // so that it is there to delete
		c.DelTable(f.table)
		return nil
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		_ = f.conn.CloseLasting()
		f.conn = nil
	}
	return err
}

// raise puts the table in place, in the stead of one that a crash left.
func (f *fence) raise(guarded map[int]bool) error {
	return f.change(func(c *nftables.Conn) error {
		c.AddTable(f.table)
		c.DelTable(f.table)
		c.AddTable(f.table)

		flows := &nftables.Set{Table: f.table, Name: "flows", KeyType: nftables.TypeIPAddr, Dynamic: true, Size: MaxSlots}
		for i, s := range []struct {
			set      *nftables.Set
			elements []nftables.SetElement
		}{{f.special, intervals(lambent.NotPublic)}, {flows, nil}, {f.policies, nil}, {f.verdicts, nil}, {f.hosts, nil}, {f.services, nil}, {f.guarded, indexes(guarded)}} {
			s.set.ID = uint32(i + 1) // in this alteration; or the library would count them in a variable that all fences share
			if err := c.AddSet(s.set, s.elements); err != nil {
				return err
			}
		}

		base := func(name string, t nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
			accept := nftables.ChainPolicyAccept
			return c.AddChain(&nftables.Chain{Table: f.table, Name: name, Type: t, Hooknum: hook, Priority: priority, Policy: &accept})
		}
		rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
			c.AddRule(&nftables.Rule{Table: f.table, Chain: chain, Exprs: slices.Concat(parts...)})
		}
		leaving := c.AddChain(&nftables.Chain{Table: f.table, Name: "leaving"})
		arriving := c.AddChain(&nftables.Chain{Table: f.table, Name: "arriving"})
		c.AddChain(f.named)
		c.AddChain(f.refuse)
		refuse := jump(expr.VerdictGoto, f.refuse)

		// Whoever sends must be who it says, before anything is remembered of it.
		source := base("source", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
		rule(source, comesFrom(f.prefix), notIPv4, drop)
		rule(source, comesFrom(f.prefix), otherRouteBack, drop)

		// The host itself has nothing for functions, but what one's policy opens.
		input := base("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
		rule(input, comesFrom(f.prefix), f.judged())
		rule(input, comesFrom(f.prefix), refuse)

		forward := base("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
		rule(forward, comesFrom(f.prefix), jump(expr.VerdictGoto, leaving))
		rule(forward, goesTo(f.prefix), jump(expr.VerdictGoto, arriving))
		rule(forward, comesBy(f.guarded), goesElsewhere, drop)

		// Nothing arrives but answers, and nothing goes from sandbox to sandbox.
		rule(arriving, comesFrom("lam"), drop)
		rule(arriving, established, accept)
		rule(arriving, drop)

		// A way out may carry less than the wire does, and not everybody's firewall
		// lets through what would say so.
		rule(leaving, protocol(unix.IPPROTO_TCP), begins, asLargeAsTheWay)
		rule(leaving, goesTo("lam"), refuse)
		rule(leaving, overLimit(flows), drop)
		rule(leaving, f.judged())
		rule(leaving, destination(1), in(f.special, 1), refuse)

		// Code that may not connect is told so: waiting for it would cost it time.
		rule(f.refuse, protocol(unix.IPPROTO_TCP), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
		rule(f.refuse, drop)

		for _, p := range ports {
			rule(f.named, protocol(p), sourceAddress(reg0), destination(reg1), port(reg2), in(f.services, reg0), accept)
		}
		rule(f.named, sourceAddress(reg0), destination(reg1), in(f.hosts, reg0), accept)

		masquerade := base("masquerade", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
		rule(masquerade, sourceAddress(1), isIn(f.from), []expr.Any{&expr.Masq{}})
		return nil
	})
}

// intervals are prefixes, in order and apart, as a set has them.
func intervals(list []netip.Prefix) []nftables.SetElement {
	var out []nftables.SetElement
	for _, p := range list {
		out = append(out, nftables.SetElement{Key: p.Addr().AsSlice()})
		a := p.Addr().As4()
		// An interval up to the last address has no end.
		if end := uint64(binary.BigEndian.Uint32(a[:])) + 1<<(32-p.Bits()); end < 1<<32 {
			out = append(out, nftables.SetElement{Key: binary.BigEndian.AppendUint32(nil, uint32(end)), IntervalEnd: true})
		}
	}
	return out
}

// Registers of four bytes, in which fields stand side by side as one key.
const (
	reg0 = unix.NFT_REG32_00 + iota
	reg1
	reg2
)

var (
	drop   = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
	accept = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}

	notIPv4 = []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}},
	}
	// The route to whom the packet says it is from leads somewhere else.
	otherRouteBack = []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
	}
	established = []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binary.NativeEndian.AppendUint32(nil, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
	goesElsewhere = name(expr.MetaKeyOIFNAME, expr.CmpOpNeq, "lam") // than to a sandbox
	// The host's own input has no interface to leave by.
	forwarded = []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIF, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}

	// A segment with SYN, and its option of the largest segment, which is only ever
	// made smaller.
	begins = []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{tcpSYN}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}},
	}
	asLargeAsTheWay = []expr.Any{
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{DestRegister: 1, SourceRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: tcpMaxSegment, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	}

	// ports are the protocols that have ports, at the same place.
	ports = []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP}
)

// comesFrom and goesTo match interfaces whose names begin so.
func comesFrom(prefix string) []expr.Any { return name(expr.MetaKeyIIFNAME, expr.CmpOpEq, prefix) }
func goesTo(prefix string) []expr.Any    { return name(expr.MetaKeyOIFNAME, expr.CmpOpEq, prefix) }

func comesBy(links *nftables.Set) []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyIIF, Register: 1}}, in(links, 1)...)
}

func name(key expr.MetaKey, op expr.CmpOp, prefix string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte(prefix)},
	}
}

func sourceAddress(reg uint32) []expr.Any { return header(reg, 12, 4) }
func destination(reg uint32) []expr.Any   { return header(reg, 16, 4) }

func header(reg, offset, length uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}}
}

// port loads the port that a packet of one of the protocols in ports goes to.
func port(reg uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

func protocol(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}},
	}
}

// isIn matches an address in the first register.
func isIn(p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func in(s *nftables.Set, reg uint32) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID}}
}

func notIn(s *nftables.Set, reg uint32) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg, SetName: s.Name, SetID: s.ID, Invert: true}}
}

// judged goes to the chain of the sandbox's policy, if it has one.
func (f *fence) judged() []expr.Any {
	return append(sourceAddress(1),
		&expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: f.policies.Name, SetID: f.policies.ID},
		&expr.Lookup{SourceRegister: 1, IsDestRegSet: true, SetName: f.verdicts.Name, SetID: f.verdicts.ID})
}

func jump(kind expr.VerdictKind, to *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: to.Name}}
}

// overLimit matches what would begin a connection over maxFlows of its source.
func overLimit(flows *nftables.Set) []expr.Any {
	return slices.Concat([]expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binary.NativeEndian.AppendUint32(nil, expr.CtStateBitNEW)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}, sourceAddress(1), []expr.Any{
		&expr.Dynset{SrcRegKey: 1, SetName: flows.Name, SetID: flows.ID, Operation: unix.NFT_DYNSET_OP_ADD,
			Exprs: []expr.Any{&expr.Connlimit{Count: maxFlows, Flags: connlimitOver}}},
	})
}
