package lambent_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"lambent"
)

func TestParseNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"":                              "default",
		"default":                       "default",
		" none ":                        "none",
		"Internet":                      "internet",
		"internet, db.internal:5432":    "db.internal:5432,internet",
		"internet,10.0.0.0/8,internet":  "10.0.0.0/8,internet",
		"10.0.0.0/8":                    "10.0.0.0/8",
		"10.1.2.3":                      "10.1.2.3/32",
		"10.1.2.3:5432":                 "10.1.2.3/32:5432",
		"0.0.0.0/0:443":                 "0.0.0.0/0:443",
		"169.254.169.254:80":            "169.254.169.254/32:80",
		"DB.Internal.:5432":             "db.internal:5432",
		"my_db:1, api.example.com:443":  "api.example.com:443,my_db:1",
		"a:1,a:1,a:2":                   "a:1,a:2",
		"10.0.0.0/8:443,10.0.0.0/8":     "10.0.0.0/8,10.0.0.0/8:443",
		"xn--mnchen-3ya.example":        "xn--mnchen-3ya.example",
		"3com.example:1,0.0.0.0/1:8080": "0.0.0.0/1:8080,3com.example:1",
	} {
		n, err := lambent.ParseNetwork(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if n.String() != want {
			t.Errorf("%q: got %q, want %q", in, n.String(), want)
		}
		if err := n.Validate(); err != nil {
			t.Errorf("%q: its own form is refused: %v", in, err)
		}
	}
}

func TestParseNetworkRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"a.b,,b.a":              "is empty",
		"intrnet":               "none of the words none, internet and default",
		"none,10.0.0.0/8":       "stands alone",
		"internet:443":          "has a port",
		"internet,none":         "stands alone",
		"https://example.com/":  "is a URL",
		"*.example.com":         "names are exact",
		"example.com:0":         "from 1 to 65535",
		"example.com:65536":     "from 1 to 65535",
		"example.com:https":     "from 1 to 65535",
		"example.com:":          "from 1 to 65535",
		"10.0.0.1/8":            "10.0.0.0/8 meant, or 10.0.0.1",
		"10.0.0":                "has no address",
		"10.0.0.256":            "has no address",
		"10.0.0.0/33":           "has no address",
		"db/24":                 "has no address",
		"127.0.0.1:5432":        "machine's address on its network",
		"localhost:5432":        "machine's address on its network",
		"a.localhost":           "machine's address on its network",
		"fd00::/8":              "IPv6",
		"[::1]:80":              "IPv6",
		"::ffff:10.0.0.1":       "IPv6",
		"exa mple.com":          "has no host's name",
		"-a.example":            "has no host's name",
		"münchen.example":       "has no host's name",
		strings.Repeat("a", 64): "has no host's name",
	} {
		_, err := lambent.ParseNetwork(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q in it", in, err, want)
		}
	}
	many := strings.Repeat("h.a,", 64)
	if _, err := lambent.ParseNetwork(many + "h2.a"); err != nil {
		t.Errorf("what stands there often counts once: %v", err)
	}
}

func TestNetworkValidate(t *testing.T) {
	for _, n := range []lambent.Network{{"default"}, {"10.1.2.3"}, {"b.c", "a.c"}, {"A.c"}, {"a.c,b.c"}, {"intrnet"}, {""}, {"none", "none"}} {
		if n.Validate() == nil {
			t.Errorf("%q is accepted", n)
		}
	}
}

// A project's network is a default: what a function says holds, be it more or less.
func TestOr(t *testing.T) {
	for _, c := range []struct{ function, project, want string }{
		{"", "", ""}, {"default", "none", "none"}, {"", "10.0.0.0/8", "10.0.0.0/8"}, {"", "internet", ""},
		{"none", "", "none"}, {"none", "internet", "none"}, {"internet", "none", ""}, {"internet", "", ""}, {"db:1", "none", "db:1"},
	} {
		function, err := lambent.ParseNetwork(c.function)
		if err != nil {
			t.Fatal(err)
		}
		project, err := lambent.ParseNetwork(c.project)
		if err != nil {
			t.Fatal(err)
		}
		want, err := lambent.ParseNetwork(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if got := function.Or(project); !slices.Equal(got, want) {
			t.Errorf("%q in a project of %q: got %q, want %q", c.function, c.project, got, want)
		}
		rev := lambent.NewRevision(lambent.Name{Project: "p", Function: "f"}, lambent.Latest, &lambent.Config{Network: function})
		in := rev.In(project)
		if !slices.Equal(in.Network, want) || (in == rev) != (in.ID == rev.ID) || in.In(nil).ID != rev.ID || in.In(project) != in {
			t.Errorf("%q in a project of %q: %+v of %+v", c.function, c.project, in, rev)
		}
	}
}

func TestDestinations(t *testing.T) {
	n, err := lambent.ParseNetwork("10.0.0.0/8:443,db:5432,api.a")
	if err != nil {
		t.Fatal(err)
	}
	got, err := n.Destinations()
	if err != nil {
		t.Fatal(err)
	}
	want := []lambent.Destination{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Port: 443}, {Host: "api.a"}, {Host: "db", Port: 5432}}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
}

func FuzzParseNetwork(f *testing.F) {
	for _, s := range []string{"none", "10.0.0.0/8:443,db.internal", "[::1]:80", "0/0", "a:b:c", "x,none", "1.2.3.4/:5", "\x00", "0.", "A,None", "a,none."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := lambent.ParseNetwork(s)
		if err != nil {
			if k := lambent.KindOf(err); k != lambent.Invalid && k != lambent.Unsupported {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		again, err := lambent.ParseNetwork(n.String())
		if err != nil || again.String() != n.String() {
			t.Errorf("%q is %q, and that is %q, %v", s, n, again, err)
		}
		if _, err := n.Destinations(); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func TestAllows(t *testing.T) {
	for _, c := range []struct {
		network, host, to string
		own, want         bool
	}{
		{"default", "example.com", "93.184.216.34:443", false, true},
		{"default", "93.184.216.34", "93.184.216.34:80", false, true},
		{"default", "evil.example", "127.0.0.1:80", false, false},
		{"default", "evil.example", "10.0.0.1:80", false, false},
		{"default", "evil.example", "169.254.169.254:80", false, false},
		{"default", "evil.example", "168.63.129.16:80", false, false},
		{"default", "evil.example", "[::ffff:127.0.0.1]:80", false, false},
		{"default", "example.com", "[2606:2800:220:1:248:1893:25c8:1946]:443", false, false}, // functions have no IPv6
		{"default", "evil.example", "[::1]:80", false, false},
		{"none", "example.com", "93.184.216.34:443", false, false},
		{"10.1.2.0/24:443", "x", "10.1.2.3:443", false, true},
		{"10.1.2.0/24:443", "x", "10.1.2.3:80", false, false},
		{"10.1.2.0/24", "example.com", "93.184.216.34:443", false, false},
		{"10.1.2.0/24,internet", "example.com", "93.184.216.34:443", false, true},
		{"hooks.internal:8080", "Hooks.Internal.", "10.9.9.9:8080", false, true},
		{"hooks.internal:8080", "hooks.internal", "10.9.9.9:8081", false, false},
		{"hooks.internal", "hooks.internal", "127.0.0.1:8080", false, false},
		{"hooks.internal", "hooks.internal", "169.254.169.254:80", false, false},
		{"hooks.internal", "other.internal", "10.9.9.9:8080", false, false},
		{"0.0.0.0/0", "0.0.0.0", "0.0.0.0:80", false, false}, // who connects there is on the loopback
		{"0.0.0.0/0", "127.0.0.2", "127.0.0.2:80", false, false},
		{"0.0.0.0/0", "evil.example", "127.0.0.1:80", true, false},
		{"default", "box.example", "93.184.216.34:80", true, false},
		{"box.example", "box.example", "93.184.216.34:80", true, false},
		{"93.184.216.34:80", "box.example", "93.184.216.34:80", true, true},
		{"10.1.2.3:80,internet", "10.1.2.3", "10.1.2.3:80", true, true},
		{"10.1.2.3:80,internet", "10.1.2.3", "10.1.2.3:81", true, false},
		{"0.0.0.0/0", "10.9.9.9", "10.9.9.9:8080", false, true},
		{"0.0.0.0/1", "evil.example", "[::ffff:127.9.9.9]:80", false, false},
	} {
		n, err := lambent.ParseNetwork(c.network)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Allows(c.host, netip.MustParseAddrPort(c.to), c.own); got != c.want {
			t.Errorf("%s: %s at %s: %v", c.network, c.host, c.to, got)
		}
	}
}
