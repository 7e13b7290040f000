package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"lambent/internal/http1"
)

// scripted is a connection on which the server has said all it says already.
type scripted struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *scripted) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *scripted) Close() error                { return nil }

func TestClient(t *testing.T) {
	for _, c := range []struct {
		name, method, answer string
		status               int
		body, fails          string
		reusable             bool
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", "", true},
		{"chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n", 200, "hello", "", true},
		{"to the end", "GET", "HTTP/1.1 200 OK\r\n\r\nhello", 200, "hello", "", false},
		{"of 1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", "", false},
		{"of 1.0, kept", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", "", true},
		{"the last", "GET", "HTTP/1.1 200 OK\r\nConnection: x-y, Close\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", "", false},
		{"more than asked for", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello there", 200, "hello", "", false},
		{"no reason", "GET", "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n", 299, "", "", true},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, "", "", true},
		{"no content", "GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", "", true},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", "", true},
		{"interim", "GET", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", "", true},
		{"switch", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101, "", "", false},
		{"short", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", 200, "hello", "unexpected EOF", false},
		{"short chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello", 200, "hello", "unexpected EOF", false},
		{"bad chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nhello", 200, "", "malformed", false},
		{"two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhello", 200, "", "malformed", false},
		{"two framings", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "", "malformed", false},
		{"chunks of 1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "", "malformed", false},
		{"unknown coding", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 200, "", "malformed", false},
		{"no HTTP", "GET", "hello there\r\n\r\n", 0, "", "malformed", false},
		{"no name", "GET", "HTTP/1.1 200 OK\r\n: x\r\n\r\n", 200, "", "malformed", false},
		{"nothing", "GET", "", 0, "", "EOF", false},
		{"half a head", "GET", "HTTP/1.1 200 OK\r\nContent-", 0, "", "unexpected EOF", false},
		{"too much head", "GET", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", 0, "", "over 64 KB", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := http1.NewClient(&scripted{in: strings.NewReader(c.answer)})
			var r http1.Response
			err := client.Receive(c.method, &r)
			var body []byte
			if err == nil {
				body, err = io.ReadAll(client.Body())
			}
			switch {
			case c.fails == "" && err != nil, c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
				t.Fatalf("error %v, want %q", err, c.fails)
			case string(body) != c.body, c.fails == "" && r.Status != c.status:
				t.Errorf("status %d, body %q", r.Status, body)
			case client.Reusable() != c.reusable:
				t.Errorf("reusable: %v", client.Reusable())
			}
		})
	}
}

func TestClientRequest(t *testing.T) {
	nc := &scripted{in: strings.NewReader(strings.Repeat("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 2))}
	client := http1.NewClient(nc)
	var r http1.Response
	w := client.Request("GET", "/a?b=c")
	w.Header("Host", "h")
	w.Header("X-Bad", "1\r\nX-Worse: 2")
	w.End()
	err := errors.Join(w.Flush(), client.Receive("GET", &r))
	w.Recycle()
	w = client.Request("POST", "/")
	w.Header("Host", "h")
	err = errors.Join(err, w.Body([]byte("hello")), w.Flush(), client.Receive("POST", &r))
	w.Recycle()
	const want = "GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\nPOST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
	if got := nc.out.String(); err != nil || got != want {
		t.Errorf("%v: sent %q", err, got)
	}
}

// TestClientOpen: what the server did with a connection that nobody used is seen
// before it is used.
func TestClientOpen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, do := range map[string]func(net.Conn){
		"nothing": func(net.Conn) {},
		"closed":  func(c net.Conn) { c.Close() },
		"said":    func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 408 Request Timeout\r\n\r\n")) },
	} {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		client := http1.NewClient(nc)
		do(server)
		open := client.Open()
		for deadline := time.Now().Add(5 * time.Second); open && name != "nothing" && time.Now().Before(deadline); open = client.Open() {
			time.Sleep(time.Millisecond) // it is on its way
		}
		if open != (name == "nothing") {
			t.Errorf("%s: open %v", name, open)
		}
	}
}

// FuzzClient holds what is taken for a response to what net/http takes for it.
func FuzzClient(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX: 1\r\n\r\n")
	f.Add("HTTP/1.0 404\r\nConnection: keep-alive\r\n\r\nhello")
	f.Add("HTTP/1.1 204 No Content\r\nX: y\r\n\r\nz")
	f.Fuzz(func(t *testing.T, answer string) {
		client := http1.NewClient(&scripted{in: strings.NewReader(answer)})
		var r http1.Response
		if client.Receive("GET", &r) != nil {
			return
		}
		body, err := io.ReadAll(client.Body())
		if err != nil {
			return
		}
		for _, interim := range []string{"HTTP/1.1 1", "HTTP/1.0 1"} {
			if strings.HasPrefix(answer, interim) {
				return
			}
		}
		want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), &http.Request{Method: "GET"})
		if err != nil {
			return // it is stricter in what a status line is
		}
		text, err := io.ReadAll(want.Body)
		if err != nil {
			return
		}
		if r.Status != want.StatusCode || string(body) != string(text) {
			t.Errorf("status %d, %q; net/http says %d, %q", r.Status, body, want.StatusCode, text)
		}
	})
}
