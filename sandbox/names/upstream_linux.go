package names

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	tryFor    = 2 * time.Second // one server
	answerFor = 5 * time.Second // all of them: as long as clients wait
)

// An upstream is the host's resolver: the name servers of its resolv.conf, which
// is read again when it has changed.
type upstream struct {
	path string

	mu      sync.Mutex // guards what follows
	read    time.Time  // modification time of what was read
	servers []string
}

func (u *upstream) list() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.path)
	if err == nil && u.servers != nil && info.ModTime().Equal(u.read) {
		return u.servers
	}
	text, _ := os.ReadFile(u.path)
	u.servers = nameServers(string(text))
	if err == nil {
		u.read = info.ModTime()
	}
	return u.servers
}

// nameServers reads resolv.conf(5). Where it names none, there is one on the host.
func nameServers(text string) []string {
	var out []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" || len(out) == 3 {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			out = append(out, netip.AddrPortFrom(a, 53).String())
		}
	}
	if out == nil {
		out = []string{"127.0.0.1:53"}
	}
	return out
}

// ask passes a query on, over "udp" or "tcp", and returns the answer to it: that
// of the first server that knows one.
func (u *upstream) ask(network string, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerFor)
	defer cancel()
	query = slices.Clone(query)
	id := [2]byte(query)
	rand.Read(query[:2]) // not one that the function could have told somebody
	var failed error
	for range 2 {
		for _, server := range u.list() {
			answer, err := exchange(ctx, network, server, query)
			if err != nil {
				failed = err
				continue
			}
			if dnsmessage.RCode(answer[3]&0xf) == dnsmessage.RCodeServerFailure {
				failed = errors.New("server failure")
				continue
			}
			copy(answer, id[:])
			return answer, nil
		}
	}
	return nil, failed
}

func exchange(ctx context.Context, network, server string, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if network == "tcp" {
		if err := writeMessage(c, query); err != nil {
			return nil, err
		}
		answer, err := readMessage(c, 1<<16)
		if err == nil && !isAnswer(query, answer) {
			err = errors.New("not an answer to the question")
		}
		return answer, err
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buffer := make([]byte, maxMessage)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return nil, err
		}
		if isAnswer(query, buffer[:n]) {
			if n == len(buffer) {
				buffer[2] |= truncated
			}
			return buffer[:n], nil
		}
	}
}
