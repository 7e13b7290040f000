package broker

import (
	"bytes"
	"net"

	"lambent"
)

// A Head reads what stands before what a broker sends, as far as there is of it: whether that
// is whole, and how many bytes then follow. An error ends the connection.
type Head func(head []byte) (whole bool, follow int, err error)

// Lines is the Head of a protocol of lines, some of which announce that so many bytes follow.
func Lines(announced func(line []byte) (int, error)) Head {
	return func(head []byte) (bool, int, error) {
		if head[len(head)-1] != '\n' {
			return false, 0, nil
		}
		n, err := announced(bytes.TrimRight(head, "\r\n"))
		return true, n, err
	}
}

// maxHead is how long a head may be.
const maxHead = 64 << 10

// A Guarded connection reads along, and ends before the client hears of what there is no
// room for: clients make room for what is announced before it comes.
type Guarded struct {
	*Bounded
	read Head
	head []byte // what there is of one
	skip int    // bytes to come behind it
}

// Guard reads along on a connection.
func Guard(c net.Conn, read Head) *Guarded { return &Guarded{Bounded: Bound(c), read: read} }

// Read implements net.Conn.
func (g *Guarded) Read(p []byte) (int, error) {
	n, err := g.Bounded.Read(p)
	if bad := g.look(p[:n]); bad != nil {
		return 0, bad
	}
	return n, err
}

func (g *Guarded) look(p []byte) error {
	for len(p) > 0 {
		if g.skip > 0 {
			n := min(g.skip, len(p))
			g.skip, p = g.skip-n, p[n:]
			continue
		}
		g.head, p = append(g.head, p[0]), p[1:]
		if len(g.head) > maxHead {
			return TooMuch("a line of bytes", len(g.head), maxHead)
		}
		whole, follow, err := g.read(g.head)
		if err != nil {
			return err
		}
		if whole {
			g.head, g.skip = g.head[:0], follow
		}
	}
	return nil
}

// TooMuch refuses what a broker announces.
func TooMuch(what string, n, most int) error {
	return lambent.Errorf(lambent.TooLarge, "broker", "the broker sends %s: %d, over the limit of %d", what, n, most)
}
