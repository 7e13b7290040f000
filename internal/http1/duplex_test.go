package http1_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent/internal/http1"
)

// back reads the body on another goroutine than the one that answers with it.
func back(t testing.TB) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := control.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		pipe, in := io.Pipe()
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, err := io.Copy(in, r.Body)
			in.CloseWithError(err)
		}()
		buf := make([]byte, 64<<10)
		for {
			n, err := pipe.Read(buf)
			if _, err := w.Write(buf[:n]); err != nil {
				break
			}
			_ = control.Flush()
			if r.URL.Path == "/enough" {
				_ = control.SetReadDeadline(time.Unix(1, 0))
				break
			}
			if err != nil {
				break
			}
		}
		pipe.Close()
		<-read
		for name, values := range r.Trailer {
			w.Header()[http.TrailerPrefix+"Back-"+name] = values
		}
	}
}

// An answer goes on while the request is read, on ours as on net/http's, and both
// bring what comes behind a body.
func TestServerFullDuplex(t *testing.T) {
	p := newPair(t, back(t))
	for name, addr := range map[string]string{"ours": p.ours, "net/http": p.theirs} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			r := bufio.NewReader(c)
			for range 3 { // of one connection
				fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
				fmt.Fprint(c, "1\r\n0\r\n")
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				body := bufio.NewReader(resp.Body)
				for i := range 10 {
					if b, err := body.ReadByte(); err != nil || b != byte('0'+i) {
						t.Fatalf("%q, %v", b, err)
					}
					if i < 9 {
						fmt.Fprintf(c, "1\r\n%d\r\n", i+1)
					}
				}
				fmt.Fprint(c, "0\r\nX-Sum: 45\r\nx-sum: 46\r\n\r\n")
				if b, err := io.ReadAll(body); len(b) > 0 || err != nil {
					t.Errorf("%q, %v", b, err)
				}
				if got := resp.Trailer["Back-X-Sum"]; !slices.Equal(got, []string{"45", "46"}) {
					t.Errorf("trailers %v", resp.Trailer)
				}
			}
		})
	}
	if n := p.handedOver.Load(); n != 0 {
		t.Errorf("%d connections were handed over", n)
	}
}

// An answer that is given before the request is whole is seen, and the connection
// ends: nothing of the rest is taken for a request.
func TestServerAnswersEarly(t *testing.T) {
	p := newPair(t, back(t))
	for name, head := range map[string]string{"length": "Content-Length: 100000000", "chunks": "Transfer-Encoding: chunked"} {
		c, err := net.Dial("tcp", p.ours)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "POST /enough HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n5\r\nhello\r\n", head)
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || !strings.Contains(string(b), "hello") || err != nil {
			t.Errorf("%s: %d %q, %v", name, resp.StatusCode, b, err)
		}
		fmt.Fprint(c, "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
		if b, err := io.ReadAll(r); len(b) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: behind it comes %q, %v", name, b, err)
		}
	}
}

// A request's body in pieces, with what comes behind it.
func TestClientStream(t *testing.T) {
	for n, want := range map[int64]string{
		5:  "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
		-1: "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX: 1\r\n\r\n",
	} {
		nc := &scripted{in: strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\nX-Sum: 2\r\n\r\n")}
		client := http1.NewClient(nc)
		w := client.Request("PUT", "/")
		w.Header("Host", "h")
		err := w.Stream(n)
		for _, part := range []string{"hel", "", "lo"} {
			if _, e := io.WriteString(w, part); e != nil {
				err = e
			}
		}
		if e := w.EndStream(map[string][]string{"X": {"1", "2\r\nY: 3"}}); e != nil {
			err = e
		}
		w.Recycle()
		if got := nc.out.String(); err != nil || got != want {
			t.Errorf("%v: sent %q", err, got)
		}
		var r http1.Response
		if err := client.Receive("PUT", &r); err != nil {
			t.Fatal(err)
		}
		if client.Trailer() != nil {
			t.Error("trailers before the body")
		}
		if b, err := io.ReadAll(client.Body()); string(b) != "ok" || err != nil || !slices.Equal(client.Trailer()["X-Sum"], []string{"1", "2"}) || !client.Reusable() {
			t.Errorf("%q, %v, %v", b, err, client.Trailer())
		}
	}
}

// What comes behind the head of a switch of protocols is the other protocol's.
func TestClientSwitch(t *testing.T) {
	client := http1.NewClient(&scripted{in: strings.NewReader("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nanything")})
	var r http1.Response
	if err := client.Receive("GET", &r); err != nil || r.Status != 101 {
		t.Fatalf("%d, %v", r.Status, err)
	}
	if b, err := io.ReadAll(client.Switch()); string(b) != "anything" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
