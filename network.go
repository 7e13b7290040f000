package lambent

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Network says what a function may connect to. Empty is the default: what its
// project says, and where that says nothing the internet, but neither this machine
// nor private networks. ["internet"] is just that, whatever the project says, and
// ["none"] is nothing. (What the platform has inside the sandbox is no matter of its
// network.) Otherwise exactly what its entries name, all of the form
// "10.1.2.0/24", "10.1.2.0/24:5432", "db.internal" or "db.internal:5432", beside the
// internet if one of them is "internet". Make one with [ParseNetwork].
type Network []string

const maxNetworkEntries = 64

// A Destination is one entry of a Network: an address range or a host, and all
// ports or one.
type Destination struct {
	Prefix netip.Prefix // IPv4; not valid where Host is set
	Host   string       // in lower case, without the last dot
	Port   uint16       // 0: all
}

// ParseNetwork reads "none", "internet", "default" or entries with commas between
// them, and gives each its one spelling.
func ParseNetwork(s string) (Network, error) {
	switch s = strings.ToLower(strings.TrimSpace(s)); s {
	case "", "default":
		return nil, nil
	case "none":
		return Network{s}, nil
	}
	var n Network
	for entry := range strings.SplitSeq(s, ",") {
		if entry = strings.TrimSpace(entry); entry == "internet" {
			n = append(n, entry)
			continue
		}
		d, err := parseDestination(entry)
		if err != nil {
			return nil, err
		}
		n = append(n, d.String())
	}
	slices.Sort(n)
	n = slices.Compact(n)
	if len(n) > maxNetworkEntries {
		return nil, Errorf(Invalid, "network", "network has %d entries, over the limit of %d", len(n), maxNetworkEntries)
	}
	return n, nil
}

// Validate accepts what ParseNetwork returns, and nothing else: two networks
// that are the same are written the same.
func (n Network) Validate() error {
	parsed, err := ParseNetwork(n.String())
	if err == nil && !slices.Equal(parsed, n) {
		err = Errorf(Invalid, "network", "network %q is not written as %q", n.String(), parsed.String())
	}
	return err
}

// IsDefault reports whether n is what a function has whose owner says nothing.
func (n Network) IsDefault() bool { return len(n) == 0 }

// Internet reports whether n opens the internet: everything but this machine and
// private networks, where it has no entries for them.
func (n Network) Internet() bool { return n.IsDefault() || slices.Contains(n, "internet") }

// Or is what a function has that says n, in a project that says project: a default
// and no ceiling. It is empty for the internet, and so is what a sandbox is told.
func (n Network) Or(project Network) Network {
	if n.IsDefault() {
		n = project
	}
	if slices.Equal(n, Network{"internet"}) {
		return nil
	}
	return n
}

// Destinations are what n opens by name or number. The internet is none: it is open
// but for a list that is not the owner's.
func (n Network) Destinations() ([]Destination, error) {
	if err := n.Validate(); err != nil {
		return nil, err
	}
	var out []Destination
	for _, entry := range n {
		if entry == "internet" || entry == "none" {
			continue
		}
		d, err := parseDestination(entry)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// String is the inverse of ParseNetwork.
func (n Network) String() string {
	if n.IsDefault() {
		return "default"
	}
	return strings.Join(n, ",")
}

// String returns the entry.
func (d Destination) String() string {
	s := d.Host
	if s == "" {
		s = d.Prefix.String()
	}
	if d.Port != 0 {
		s += ":" + strconv.Itoa(int(d.Port))
	}
	return s
}

// NotPublic is what the internet is not: the parts of IANA's registry of
// special-purpose addresses (IPv4) that are not globally reachable, and one that is on
// nobody's list, Azure's for its machines' secrets. In order, and apart.
var NotPublic = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3")

// notByName are those that may be opened by number only: whoever answers for a name must
// not choose them. The last three are where clouds tell machines their secrets: Alibaba's,
// Oracle's, and Azure's, which looks public.
var notByName = prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32")

// itself is who asks: inside its own sandbox, which no entry is about, however wide.
var itself = prefixes("0.0.0.0/8", "127.0.0.0/8")

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ByName reports whether an address may be opened by a name that leads to it.
func ByName(a netip.Addr) bool { return !within(notByName, a) }

// Allows reports whether n opens an address and port (IPv4) to who asked for host, a name
// or the address itself. own is whether it is one of this machine's: those are opened by
// number alone, and its loopback never.
func (n Network) Allows(host string, to netip.AddrPort, own bool) bool {
	a := to.Addr().Unmap()
	if !a.Is4() || within(itself, a) {
		return false
	}
	if n.Internet() && !own && !within(NotPublic, a) {
		return true
	}
	destinations, err := n.Destinations()
	if err != nil {
		return false
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return slices.ContainsFunc(destinations, func(d Destination) bool {
		switch {
		case d.Port != 0 && d.Port != to.Port():
			return false
		case d.Host != "":
			return d.Host == host && !own && ByName(a)
		default:
			return d.Prefix.Contains(a)
		}
	})
}

var (
	hostRule  = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	digitsEnd = regexp.MustCompile(`(^|\.)[0-9]+$`) // an address, or a slip of the pen in one

	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
)

func parseDestination(entry string) (Destination, error) {
	bad := func(format string, args ...any) (Destination, error) {
		return Destination{}, Errorf(Invalid, "network", "network entry %.80q "+format, append([]any{entry}, args...)...).
			WithHint("--network none, or internet, CIDR, CIDR:PORT, HOST or HOST:PORT with commas between them")
	}
	var d Destination
	switch {
	case entry == "":
		return bad("is empty: an address or a host's name must stand there")
	case strings.Contains(entry, "://"):
		return bad("is a URL: its host and port are what is opened, such as api.example.com:443")
	case strings.Contains(entry, "*"):
		return bad("has a wildcard: names are exact")
	case strings.Count(entry, ":") > 1 || strings.ContainsAny(entry, "[]"):
		e := Errorf(Unsupported, "network", "network entry %.80q is of IPv6, which functions do not have", entry)
		return d, e.WithHint("give an IPv4 address, or the host's name")
	}
	where, port, hasPort := strings.Cut(entry, ":")
	where = strings.TrimSuffix(where, ".")
	switch where {
	case "none", "default":
		return bad("stands alone or not at all")
	case "internet":
		return bad("has a port: the internet is open at all of them")
	}
	if hasPort {
		p, err := strconv.ParseUint(port, 10, 16)
		if err != nil || p == 0 {
			return bad("has the port %q: a number from 1 to 65535", port)
		}
		d.Port = uint16(p)
	}
	if address, err := netip.ParseAddr(where); err == nil {
		where = address.String() + "/32"
	}
	if strings.Contains(where, "/") || digitsEnd.MatchString(where) {
		prefix, err := netip.ParsePrefix(where)
		switch {
		case err != nil:
			return bad("has no address: 10.1.2.3 is one, 10.1.2.0/24 a range of them")
		case prefix != prefix.Masked():
			return bad("is not the first of its range: is %s meant, or %s?", prefix.Masked(), prefix.Addr())
		case prefix.Bits() >= loopback4.Bits() && loopback4.Contains(prefix.Addr()):
			return bad("is the loopback, which inside is the function's own: give the machine's address on its network")
		}
		d.Prefix = prefix
		return d, nil
	}
	switch d.Host = where; {
	case where == "localhost" || strings.HasSuffix(where, ".localhost"):
		return bad("is the loopback, which inside is the function's own: give the machine's address on its network")
	case len(where) > 253 || !hostRule.MatchString(where):
		return bad("has no host's name: letters, digits, '-', '_' and dots")
	case !hasPort && !strings.Contains(where, "."): // it may be a slip of the pen in a word
		return bad("is none of the words none, internet and default: a host without a domain is given with its port, such as %s:443", where)
	}
	return d, nil
}
