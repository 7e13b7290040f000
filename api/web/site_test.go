package web_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

// drivers are those that tests of web servers run on.
var drivers = map[string]func(*server.Config){"process": servertest.Plain, "namespace": func(c *server.Config) { c.Driver = "namespace" }}

// onEach runs a test on a server of each driver, beside each other.
func onEach(t *testing.T, test func(*testing.T, *servertest.Server), change ...func(*server.Config)) {
	for name, driver := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "namespace" && os.Geteuid() != 0 {
				servertest.Missing(t, "the driver namespace needs Linux and root")
			}
			test(t, servertest.Start(t, append(change, driver)...))
		})
	}
}

// site deploys a web server of testdata, with a library for WebSockets that tools/setup.sh
// has installed, for a hundred calls at a time.
func site(t *testing.T, s *servertest.Server, language string, change ...func(*client.DeployRequest)) {
	t.Helper()
	libraries, _ := filepath.Glob("../../.venv/websocket-" + language + "-*[0-9]")
	if len(libraries) == 0 {
		servertest.Missing(t, "the library for WebSockets is not installed: tools/setup.sh test")
	}
	files := servertest.Files{}
	for _, dir := range []string{filepath.Join("testdata", "site-"+language), libraries[len(libraries)-1]} {
		tree := os.DirFS(dir)
		err := fs.WalkDir(tree, ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !strings.Contains(path, "__pycache__") {
				var b []byte
				b, err = fs.ReadFile(tree, path)
				files[path] = string(b)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	r := client.DeployRequest{
		Runtime: new(s.Newest(t, "google-nodejs")), Command: []string{"node", "app.js"}, Concurrency: new(100), MemoryMB: new(512),
		TimeoutMS: new(int64(30_000)), URL: &client.URLRequest{Policy: new(lambent.URLPublic)},
	}
	if language == "python" {
		r.Runtime, r.Command = new(s.Newest(t, "google-python")), []string{"python3", "app.py"}
	}
	for _, c := range change {
		c(&r)
	}
	if _, err := s.Deploy(t.Context(), t, "site", files, r); err != nil {
		t.Fatal(err)
	}
}

// record is the usage record of a request, which may be on its way.
func record(t *testing.T, s *servertest.Server, id string) client.Invocation {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		list, err := s.Client.Invocation(t.Context(), id)
		if err == nil && len(list.Invocations) == 1 {
			return list.Invocations[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no usage record of %q: %v, %v", id, list, err)
		}
	}
}

// logOf is the log of one request.
func logOf(t *testing.T, s *servertest.Server, id string) (text string) {
	t.Helper()
	for line, err := range s.Client.Logs(t.Context(), "site", client.LogQuery{Request: id}) {
		if err != nil {
			t.Fatal(err)
		}
		text += line.Text + "\n"
	}
	return text
}

// The opcodes of frames (RFC 6455, 5.2).
const (
	isText  = 1
	isClose = 8
)

// A socket is a client's end of a WebSocket, or of the answer that refuses one.
type socket struct {
	net.Conn
	in *bufio.Reader
	*http.Response
}

// open asks for a WebSocket, as browsers do.
func open(t testing.TB, s *servertest.Server, path string, header ...string) *socket {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, s, c, path, header...)
}

// openOn asks for it on a connection that there is.
func openOn(t testing.TB, s *servertest.Server, c net.Conn, path string, header ...string) *socket {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	header = append(header, "Connection", "keep-alive, Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if err := s.Request(t, "GET", path, nil, header...).Write(c); err != nil {
		t.Fatal(err)
	}
	so := &socket{Conn: c, in: bufio.NewReader(c)}
	var err error
	if so.Response, err = http.ReadResponse(so.in, nil); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return so
}

func (c *socket) id() string { return c.Header.Get("X-Amzn-Requestid") }

// said is what a refusal says.
func (c *socket) said(t testing.TB) string {
	t.Helper()
	b, err := io.ReadAll(c.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// send sends one frame, masked as a client's are.
func (c *socket) send(t testing.TB, opcode byte, payload string) {
	t.Helper()
	head := []byte{0x80 | opcode}
	switch n := len(payload); {
	case n < 126:
		head = append(head, 0x80|byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 0x80|127), uint64(n))
	}
	var mask [4]byte
	rand.Read(mask[:])
	frame := append(append(head, mask[:]...), payload...)
	for i := range len(payload) {
		frame[len(head)+4+i] ^= mask[i%4]
	}
	if _, err := c.Conn.Write(frame); err != nil {
		t.Fatal(err)
	}
}

// receive returns one frame.
func (c *socket) receive() (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return 0, nil, err
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.in, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.in, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil || n > 64<<20 {
		return 0, nil, fmt.Errorf("a frame of %d bytes: %v", n, err)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.in, payload)
	return head[0] & 15, payload, err
}

// echo sends a text, and expects it back.
func (c *socket) echo(t testing.TB, text string) {
	t.Helper()
	c.send(t, isText, text)
	if opcode, got, err := c.receive(); opcode != isText || !bytes.Equal(got, []byte(text)) || err != nil {
		t.Fatalf("of %.20q came back %d, %.20q, %v", text, opcode, got, err)
	}
}

// closes expects the end, with a code before it if one is wanted.
func (c *socket) closes(t testing.TB, code int) {
	t.Helper()
	opcode, payload, err := c.receive()
	if code != 0 {
		if opcode != isClose || len(payload) < 2 || int(binary.BigEndian.Uint16(payload)) != code {
			t.Errorf("in place of an end with %d came %d, %q, %v", code, opcode, payload, err)
		}
		c.send(t, isClose, string(payload[:min(2, len(payload))]))
		_, _, err = c.receive()
	}
	if err == nil {
		t.Error("the connection goes on")
	}
	c.Conn.Close()
}
