// Package names answers what functions ask for names. A function finds a name
// server at an address inside its own network; behind that are sockets that a
// driver makes and this package reads, passes on to the host's resolver, and
// answers by. Of a network policy with names it resolves those only, and has the
// addresses of an answer opened before the answer goes in.
//
// It reads what functions and resolvers write, which are foreign bytes. Therefore
// it is a driver around another one: where making sandboxes is another process's,
// with root's rights, this is not in it. What that process is asked for are
// addresses for a name, and it judges itself what it opens.
//
// A sandbox that asks nothing costs no goroutine. One that asks too much waits.
// An answer that comes when its sandbox is gone is nobody's.
package names

import "log/slog"

// Options configure a relay.
type Options struct {
	ResolvConf string       // who resolves names; empty: /etc/resolv.conf
	Logger     *slog.Logger // nil: nowhere
}
