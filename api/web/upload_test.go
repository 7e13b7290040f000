package web_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

// A summed body is what /sum answers.
type summed struct {
	Sum      string
	Bytes    int
	Headers  map[string]string
	Trailers map[string]string
}

// noise is a body that nobody has seen before, and its sum.
func noise(n int) (body []byte, sum string) {
	body = make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(body)
	h := sha256.Sum256(body)
	return body, hex.EncodeToString(h[:])
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %.300q", err, text)
	}
	return v
}

// Bodies of any size come to the code as they were sent, by length and in chunks; what
// is small is there as a whole before.
func TestUpload(t *testing.T) {
	onEach(t, func(t *testing.T, s *servertest.Server) {
		site(t, s, "node")
		for _, n := range []int{0, 1, 16 << 10, 64 << 10, 64<<10 + 1, 1 << 20, 20 << 20} {
			body, sum := noise(n)
			for _, chunks := range []bool{false, true} {
				r := s.Request(t, "PUT", "/fn/site/sum", bytes.NewReader(body))
				if chunks {
					r.ContentLength, r.Body = -1, io.NopCloser(bytes.NewReader(body))
				}
				a := servertest.Do(t, r)
				if a.StatusCode != 200 {
					t.Fatalf("%d bytes, chunks %v: %d %s", n, chunks, a.StatusCode, a.Body)
				}
				got := decode[summed](t, a.Body)
				length := fmt.Sprint(n)
				if chunks {
					length = ""
				}
				if got.Sum != sum || got.Bytes != n || got.Headers["content-length"] != length {
					t.Errorf("%d bytes, chunks %v: %+v", n, chunks, got)
				}
				if u := record(t, s, a.Header.Get("X-Amzn-Requestid")); u.BytesIn != int64(n) || u.Outcome != "ok" {
					t.Errorf("%d bytes, chunks %v: %+v", n, chunks, u)
				}
			}
		}
		// There and back at once, with a connection that serves on.
		body, _ := noise(10 << 20)
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		for range 2 {
			resp, err := transport.RoundTrip(s.Request(t, "POST", "/fn/site/pipe", bytes.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(resp.Body); !bytes.Equal(got, body) || err != nil {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
			resp.Body.Close()
		}
	})
}

// What comes behind a body, to the code and from it.
func TestTrailers(t *testing.T) {
	onEach(t, func(t *testing.T, s *servertest.Server) {
		site(t, s, "node")
		r := s.Request(t, "POST", "/fn/site/sum", nil, "Te", "trailers")
		r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader("hello"))
		r.Trailer = http.Header{"X-Sum": {"1"}, "X-More": {"2"}}
		got := decode[summed](t, servertest.Do(t, r).Body)
		if got.Bytes != 5 || got.Trailers["x-sum"] != "1" || got.Trailers["x-more"] != "2" || got.Headers["trailer"] != "X-More, X-Sum" || got.Headers["te"] != "trailers" {
			t.Errorf("%+v", got)
		}
		// Those that nobody has announced, and those that are not for there.
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "POST /fn/site/sum HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Late: 3\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 7\r\nHost: evil\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if got := decode[summed](t, string(b)); err != nil || got.Bytes != 5 || len(got.Trailers) != 1 || got.Trailers["x-late"] != "3" {
			t.Errorf("%+v, %v", got, err)
		}
		for path, want := range map[string][]string{"/trailers": {"42", "43"}, "/only-trailers": {"44"}} {
			for _, header := range [][]string{nil, {"Te", "trailers"}} { // of our front, and of net/http
				a := servertest.Do(t, s.Request(t, "GET", "/fn/site"+path, nil, header...))
				if a.StatusCode != 200 || !slices.Equal(a.Trailer["X-Sum"], want) || len(a.Trailer) != 1 {
					t.Errorf("%s with %v: %d %q, %v", path, header, a.StatusCode, a.Body, a.Trailer)
				}
			}
		}
	})
}

// A client that is told to go on before it sends has its body passed on as well.
func TestUploadExpected(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	site(t, s, "node")
	body, sum := noise(1 << 20)
	told := false
	r := s.Request(t, "POST", "/fn/site/sum", bytes.NewReader(body), "Expect", "100-continue")
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { told = code == 100; return nil },
	}))
	transport := &http.Transport{ExpectContinueTimeout: 10 * time.Second, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if got := decode[summed](t, string(b)); !told || got.Sum != sum {
		t.Errorf("told %v, %+v", told, got)
	}
}

// A body that does not come to its end, and one that is not read to its end.
func TestUploadBreaksOff(t *testing.T) {
	onEach(t, func(t *testing.T, s *servertest.Server) {
		site(t, s, "node", func(r *client.DeployRequest) { r.TimeoutMS = new(int64(3000)) })
		instance := record(t, s, s.Get(t, "/fn/site/").Header.Get("X-Amzn-Requestid")).Instance
		last := func() client.Invocation {
			t.Helper()
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				list, err := s.Client.Invocations(t.Context(), "site", client.Period{}, 1)
				if err == nil && len(list.Invocations) == 1 && list.Invocations[0].BytesIn > 0 {
					return list.Invocations[0]
				}
				if time.Now().After(deadline) {
					t.Fatalf("%+v, %v", list, err)
				}
			}
		}
		begin := func(path, head string) net.Conn {
			t.Helper()
			c, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			fmt.Fprintf(c, "POST /fn/site%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", path, head)
			return c
		}
		canceled := func(name string, c net.Conn, bytes int64) {
			t.Helper()
			u := last()
			if u.Outcome != "canceled" || u.BytesIn != bytes || u.Instance != instance {
				t.Errorf("%s: %+v", name, u)
			}
			if log := logOf(t, s, u.ID); !strings.Contains(log, "its body broke off") {
				t.Errorf("%s: the log is\n%s", name, log)
			}
			if a := s.Get(t, "/fn/site/"); a.StatusCode != 200 {
				t.Errorf("%s: afterwards %d", name, a.StatusCode)
			}
			c.Close()
		}
		c := begin("/sum", "Content-Length: 1000000")
		fmt.Fprint(c, strings.Repeat("x", 1000))
		time.Sleep(100 * time.Millisecond)
		c.Close()
		canceled("gone", c, 1000)
		c = begin("/sum", "Transfer-Encoding: chunked")
		fmt.Fprint(c, "3e8\r\n"+strings.Repeat("x", 1000)+"\r\nno chunk\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 499 || !resp.Close {
			t.Errorf("a chunk that is none: %+v, %v", resp, err)
		}
		canceled("no chunk", c, 1000)

		// Code that answers before it has read all: the answer counts.
		c = begin("/early", "Content-Length: 100000000")
		go func() { _, _ = io.Copy(c, io.LimitReader(zeros{}, 100_000_000)) }()
		resp, err = http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(b) != "too much" || err != nil {
			t.Errorf("early: %d %q, %v", resp.StatusCode, b, err)
		}
		if u := record(t, s, resp.Header.Get("X-Amzn-Requestid")); u.Outcome != "ok" || u.BytesIn > 50_000_000 {
			t.Errorf("early: %+v", u)
		}
		// Code that reads nothing slows its client down, and has its timeout.
		c = begin("/deaf", "Content-Length: 100000000")
		go func() { _, _ = io.Copy(c, io.LimitReader(zeros{}, 100_000_000)) }()
		if resp, err = http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 504 {
			t.Fatalf("deaf: %+v, %v", resp, err)
		}
		if u := record(t, s, resp.Header.Get("X-Amzn-Requestid")); u.Outcome != "timeout" || u.BytesIn > 20_000_000 {
			t.Errorf("deaf: %+v", u)
		}
	})
}

// zeros has as many as anybody reads.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Who sends nothing for too long is cut off, on our front and on net/http's; who is
// slow is not, nor who is not asked for more.
func TestUploadStalls(t *testing.T) {
	s := servertest.Start(t, servertest.Plain, func(c *server.Config) { c.StallTimeout = 500 * time.Millisecond })
	site(t, s, "node")
	for _, more := range []string{"", "Te: trailers\r\n"} {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /fn/site/sum HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: 1000000\r\n\r\n", more)
		for range 10 {
			fmt.Fprint(c, "x")
			time.Sleep(100 * time.Millisecond)
		}
		begun := time.Now()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 499 {
			t.Fatalf("%+v, %v", resp, err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if u := record(t, s, resp.Header.Get("X-Amzn-Requestid")); u.Outcome != "canceled" || u.BytesIn != 10 {
			t.Errorf("%+v", u)
		}
	}
	a := servertest.Do(t, s.Request(t, "POST", "/fn/site/slowly", io.LimitReader(zeros{}, 30<<20)))
	if a.StatusCode != 200 || a.Body != fmt.Sprint(30<<20) {
		t.Errorf("%d %s", a.StatusCode, a.Body)
	}
}

// A client that goes once it has sent its body ends the call, where that is said.
func TestUploadThenGone(t *testing.T) {
	s := servertest.Start(t, servertest.Plain)
	site(t, s, "node", func(r *client.DeployRequest) { r.OnDisconnect = new(lambent.DisconnectCancel) })
	for _, more := range []string{"", "Te: trailers\r\n"} { // on our front, and on net/http's
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /fn/site/hang HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: 100000\r\n\r\n%s", more, strings.Repeat("x", 100_000))
		time.Sleep(300 * time.Millisecond) // it has read all
		c.Close()
		begun := time.Now()
		if a := s.Get(t, "/fn/site/"); a.StatusCode != 200 {
			t.Errorf("%d", a.StatusCode)
		}
		for found := false; !found; time.Sleep(10 * time.Millisecond) {
			list, err := s.Client.Invocations(t.Context(), "site", client.Period{}, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range list.Invocations {
				found = found || u.BytesIn == 100_000 && u.Outcome == "canceled" && u.End.After(begun.Add(-time.Second))
			}
			if time.Since(begun) > 10*time.Second {
				t.Fatalf("%q: %+v", more, list)
			}
		}
	}
}
