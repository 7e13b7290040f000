package web

import (
	"bufio"
	"net"
	"net/http"
	"net/url"
	"strings"

	"lambent"
)

var (
	_ lambent.Switcher = (*reply)(nil)
	_ lambent.Conn     = (*switched)(nil)
)

// webSocket is the one protocol that is switched to. Another one may be HTTP again
// (h2c), whose requests nobody would look at.
const webSocket = "websocket"

// upgrade is what the request wants to switch to, as lambent.Request says it.
func upgrade(r *http.Request) string {
	wanted := r.Header["Upgrade"]
	if len(wanted) != 1 || !strings.EqualFold(wanted[0], webSocket) || r.Method != http.MethodGet || r.Proto != "HTTP/1.1" || r.ContentLength != 0 {
		return ""
	}
	for _, line := range r.Header["Connection"] {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "Upgrade") {
				return webSocket
			}
		}
	}
	return ""
}

// mayUpgrade holds browsers to the URL's CORS, where it has one: they ask nobody
// before they open a WebSocket to another origin, and let its page read all of it.
// Without one what a page may read is the function's to say, and so is this.
func mayUpgrade(r *http.Request, c *lambent.CORS) error {
	origin := r.Header.Get("Origin")
	if c == nil || origin == "" || allowed(c, origin) != "" {
		return nil
	}
	if u, err := url.Parse(origin); err == nil && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	return lambent.Errorf(lambent.Forbidden, "web", "pages of %.100q may not open a WebSocket here: the URL's CORS does not allow the origin", origin)
}

// Switch implements lambent.Switcher.
func (o *reply) Switch(header map[string][]string) (lambent.Conn, error) {
	o.fill(header)
	h := o.w.Header().Clone()
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", webSocket)
	h.Del("Content-Length")
	nc, rw, err := http.NewResponseController(o.w).Hijack()
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "web", "the connection cannot be switched: %w", err)
	}
	o.begun = true
	o.conn = &switched{Conn: nc, in: rw.Reader}
	head := bufio.NewWriter(nc)
	_, _ = head.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(head)
	_, _ = head.WriteString("\r\n")
	return o.conn, head.Flush() // which has the error of what was written before
}

// A switched connection reads first what its client has sent already.
type switched struct {
	net.Conn
	in *bufio.Reader
}

// Read implements io.Reader.
func (c *switched) Read(b []byte) (int, error) { return c.in.Read(b) }

// CloseWrite implements lambent.Conn.
func (c *switched) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
