package broker

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"lambent"
)

// An Endpoint is what a broker's URL says of how to connect.
type Endpoint struct {
	Address        string // HOST:PORT
	User, Password string
	Path           string // without the slash in front
	Query          url.Values
	TLS            *tls.Config // nil: without
}

// EndpointOf reads a URL that is valid, and refuses what its driver does not know: there
// is a path only if one is said, and parameters out of a list.
func EndpointOf(b *lambent.Broker, path bool, parameters ...string) (Endpoint, error) {
	refuse := func(format string, args ...any) (Endpoint, error) {
		return Endpoint{}, lambent.Errorf(lambent.Invalid, b.Engine(), format, args...)
	}
	u, err := url.Parse(b.URL)
	if err != nil { // it has the password
		return refuse("the broker's URL cannot be read")
	}
	e := Endpoint{Address: b.Address(), User: u.User.Username(), Path: strings.TrimPrefix(u.Path, "/"), Query: u.Query()}
	e.Password, _ = u.User.Password()
	if b.TLS() {
		if e.TLS, err = b.TLSConfig(u.Hostname()); err != nil {
			return Endpoint{}, err
		}
	}
	if e.Path != "" && !path {
		return refuse("the URL of this broker has nothing behind its host: %s", b.Masked())
	}
	for name := range e.Query {
		if !slices.Contains(parameters, name) {
			if len(parameters) == 0 {
				return refuse("the URL of this broker has no parameters: %.32q", name)
			}
			return refuse("the broker's URL has the parameter %.32q: it may have %s", name, strings.Join(parameters, ", "))
		}
	}
	return e, nil
}

const dialTimeout = 10 * time.Second

// Dial connects, with TLS if the URL says so.
func (e *Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialTimeout}
	if e.TLS != nil {
		return (&tls.Dialer{NetDialer: d, Config: e.TLS}).DialContext(ctx, "tcp", e.Address)
	}
	return d.DialContext(ctx, "tcp", e.Address)
}

// maxUnread is how much a broker may send that nobody has asked for yet.
const maxUnread = 256 << 20

// A Bounded is a connection that ends when the broker sends without end.
type Bounded struct {
	net.Conn
	left atomic.Int64
}

// Bound bounds a connection.
func Bound(c net.Conn) *Bounded {
	b := &Bounded{Conn: c}
	b.Taken()
	return b
}

// Taken says that nothing waits which was read.
func (b *Bounded) Taken() { b.left.Store(maxUnread) }

// Read implements net.Conn.
func (b *Bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if b.left.Add(-int64(n)) < 0 {
		return 0, lambent.Errorf(lambent.TooLarge, "broker", "the broker has sent over %d MB at a time", maxUnread>>20)
	}
	return n, err
}
