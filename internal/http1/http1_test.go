package http1_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"lambent/internal/http1"
)

// serve answers every request on the far end of a pipe with what handle returns
// for it, and returns everything that the client got for what it sent.
func serve(t *testing.T, send string, handle func(*http1.Conn, *http1.Request) string) (got string, err error) {
	t.Helper()
	client, server := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	_ = client.SetDeadline(deadline)
	result := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(client)
		result <- string(b)
	}()
	go func() {
		io.WriteString(client, send)
		// A half-closed pipe does not exist: a bad request line ends the server's loop.
		io.WriteString(client, "END\r\n\r\n")
	}()
	c := http1.NewConn(server)
	for {
		var req http1.Request
		if err = c.Read(&req); err != nil {
			break
		}
		text := handle(c, &req)
		c.Answer().Begin(200)
		if err = c.Answer().Body([]byte(text)); err != nil {
			break
		}
	}
	c.Flush()
	c.Close()
	return <-result, err
}

func describe(c *http1.Conn, req *http1.Request) string {
	b, err := c.ReadBody(nil, 100)
	return fmt.Sprintf("%s %s %d %q x=%s t=%s %v", req.Method, req.Path, req.ContentLength, b, req.Header("X-Test"), c.Trailer("T"), err)
}

func TestRequests(t *testing.T) {
	for _, c := range []struct{ name, send, want string }{
		{"no body", "GET /a HTTP/1.1\r\nHost: h\r\nx-TEST:  v \r\n\r\n", `GET /a 0 "" x=v t= <nil>`},
		{"bare line feeds", "GET /a HTTP/1.1\nX-Test: v\n\n", `GET /a 0 "" x=v t= <nil>`},
		{"length", "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", `POST /a 5 "hello" x= t= <nil>`},
		{"chunked with trailer", "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n", `POST /a -1 "abcde" x= t=v <nil>`},
		{"over the limit", "POST /a HTTP/1.1\r\nContent-Length: 101\r\n\r\n" + strings.Repeat("x", 101), `POST /a 101 "" x= t= http1: body over the limit`},
		{"chunks over the limit", "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + strings.Repeat("x", 101) + "\r\n0\r\n\r\n", `over the limit`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _ := serve(t, c.send+c.send, describe) // twice: the connection goes on
			if n := strings.Count(got, c.want); n != 2 {
				t.Errorf("got %d answers with %s in\n%s", n, c.want, got)
			}
		})
	}
}

func TestContinue(t *testing.T) {
	got, _ := serve(t, "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi", describe)
	if !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") {
		t.Errorf("got %q", got)
	}
}

func TestMalformed(t *testing.T) {
	for _, send := range []string{
		"GET\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
		"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n",
	} {
		got, err := serve(t, send, describe)
		if err == nil || got != "" {
			t.Errorf("%.60q: %v, answered %q", send, err, got)
		}
	}
	for _, body := range []string{"zz\r\n", "-1\r\n", "1\r\nab\r\n", "10000000000000000\r\n", "0\r\nno colon\r\n\r\n"} {
		got, _ := serve(t, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"+body, describe)
		if !strings.Contains(got, "malformed") {
			t.Errorf("chunked body %q: %q", body, got)
		}
	}
}

// Two requests that came in one packet are answered in one write.
func TestAnswersGather(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	go io.WriteString(client, "POST /r HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET /next HTTP/1.1\r\n\r\n")
	c := http1.NewConn(server)
	go func() {
		var req http1.Request
		for i := range 2 {
			if err := c.Read(&req); err != nil {
				return
			}
			c.Answer().Begin(202 - i*2)
			_ = c.Answer().Body(nil)
		}
		_ = c.Flush()
	}()
	buf := make([]byte, 4096)
	n, err := client.Read(buf)
	if err != nil || strings.Count(string(buf[:n]), "HTTP/1.1 20") != 2 {
		t.Errorf("first read: %q, %v", buf[:n], err)
	}
}

func TestHeaderInjection(t *testing.T) {
	client, server := net.Pipe()
	c := http1.NewConn(server)
	go func() {
		c.Answer().Begin(200)
		c.Answer().Header("A", "b\r\nEvil: yes")
		_ = c.Answer().Body(nil)
		_ = c.Flush()
		c.Close()
	}()
	got, _ := io.ReadAll(client)
	if bytes.Contains(got, []byte("Evil")) {
		t.Errorf("got %q", got)
	}
}

func FuzzConn(f *testing.F) {
	f.Add([]byte("POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := http1.NewConn(input{bytes.NewReader(in)})
		for {
			var req http1.Request
			if err := c.Read(&req); err != nil {
				return
			}
			b, err := c.ReadBody(nil, 1<<16)
			if len(b) > len(in) {
				t.Fatalf("a body of %d bytes from %d", len(b), len(in))
			}
			if err != nil && !errors.Is(err, http1.ErrTooLarge) {
				return
			}
		}
	})
}

// input is a connection that reads from memory and swallows what is written.
type input struct{ *bytes.Reader }

func (input) Write(p []byte) (int, error)      { return len(p), nil }
func (input) Close() error                     { return nil }
func (input) LocalAddr() net.Addr              { return nil }
func (input) RemoteAddr() net.Addr             { return nil }
func (input) SetDeadline(time.Time) error      { return nil }
func (input) SetReadDeadline(time.Time) error  { return nil }
func (input) SetWriteDeadline(time.Time) error { return nil }
