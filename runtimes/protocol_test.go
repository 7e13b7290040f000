package runtimes_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"lambent"
)

// bothAgents runs a test with an agent of each language, on the newest version
// that is here, and hands it that language's spelling of the named function.
func bothAgents(t *testing.T, name string, test func(t *testing.T, rt lambent.Runtime, c call)) {
	t.Helper()
	for prefix, spellings := range map[string]map[string]call{"python3": pythonFunctions, "nodejs": nodeFunctions} {
		t.Run(prefix, func(t *testing.T) {
			list := family(t, prefix)
			test(t, list[len(list)-1], spellings[name])
		})
	}
}

var pythonFunctions = map[string]call{
	"echo":     python("return event"),
	"children": python("import os, subprocess", "return [os.readlink('/proc/self/fd/3'), subprocess.run(['ls', '-l', '/proc/self/fd'], stdout=subprocess.PIPE, close_fds=False).stdout.decode()]"),
	"close":    python("import os", "os.close(3)"),
}

var nodeFunctions = map[string]call{
	"echo":     async("return event"),
	"children": async("return [require('fs').readlinkSync('/proc/self/fd/3'), require('child_process').execFileSync('ls', ['-l', '/proc/self/fd']).toString()]"),
	"close":    async("require('fs').closeSync(3)"),
}

func (p *process) exitStatus(t *testing.T) string {
	t.Helper()
	select {
	case <-p.exited:
		return p.ProcessState.String()
	case <-time.After(10 * time.Second):
		t.Fatal("the process does not end")
		return ""
	}
}

func TestEndWhileParked(t *testing.T) {
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		p := park(t, rt)
		p.conn.Close()
		if s := p.exitStatus(t); s != "exit status 0" || p.output.Len() > 0 {
			t.Errorf("%s, said %q", s, p.output.String())
		}
	})
}

func TestEndWhileWaiting(t *testing.T) {
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		c.events = one
		task, opt := layOut(t, c)
		p := park(t, rt)
		p.assign(t, c, task, opt)
		a := newAPI(c.events)
		a.conns.Go(func() { a.serve(p.conn, true) })
		if !a.wait(t, p.process) {
			t.Fatalf("the agent ended: %s", p.output.String())
		}
		p.conn.Close()
		if s := p.exitStatus(t); s != "exit status 0" || p.output.Len() > 0 {
			t.Errorf("%s, said %q", s, p.output.String())
		}
	})
}

// TestOneWrite: an answer and the request for the next event come together, so
// that the server wakes up once.
func TestOneWrite(t *testing.T) {
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		task, opt := layOut(t, c)
		p := park(t, rt)
		p.assign(t, c, task, opt)
		a := newAPI([]event{{body: `"x"`}})
		read := func() string {
			buffer := make([]byte, 65536)
			p.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := p.conn.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			return string(buffer[:n])
		}
		read()
		if _, err := p.conn.Write(a.next()); err != nil {
			t.Fatal(err)
		}
		if got := read(); !strings.HasPrefix(got, "POST ") || !strings.Contains(got, "\"x\"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n") {
			t.Errorf("the first read has %q", got)
		}
	})
}

// slowly writes one byte at a time.
type slowly struct{ net.Conn }

func (s slowly) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := s.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// byteReader reads one byte at a time.
type byteReader struct {
	net.Conn
	r io.Reader
}

func (b byteReader) Read(p []byte) (int, error) { return b.r.Read(p) }

func TestFragments(t *testing.T) {
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		c.events = []event{{body: `"a"`}, {body: `"b"`}, {body: `"c"`}}
		for _, hold := range []bool{true, false} {
			task, opt := layOut(t, c)
			p := park(t, rt)
			p.conn = slowly{byteReader{p.conn, iotest.OneByteReader(p.conn)}}
			p.assign(t, c, task, opt)
			a := newAPI(c.events)
			a.conns.Go(func() { a.serve(p.conn, hold) })
			a.wait(t, p.process)
			if !a.waiting() {
				t.Fatalf("the agent ended: %s", p.output.String())
			}
			if len(a.answers) != 3 || a.answers[2].Body != `"c"` {
				t.Errorf("hold %v: %+v", hold, a.answers)
			}
		}
	})
}

func TestBigPayloads(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 6<<20/16-1)
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		c.events = []event{{body: `"` + text + `"`}, {body: `"after"`}}
		got := run(t, rt, c)
		if len(got.Answers) != 2 || got.Answers[0].Body != c.events[0].body || got.Answers[1].Body != `"after"` {
			t.Errorf("%d answers, the first of %d bytes; %s", len(got.Answers), len(got.Answers[0].Body), got.Output)
		}
	})
}

// script answers requests with fixed bytes, in order, and then waits for the end.
func script(t *testing.T, rt lambent.Runtime, c call, replies ...[]byte) *parked {
	t.Helper()
	task, opt := layOut(t, c)
	p := park(t, rt)
	p.assign(t, c, task, opt)
	if _, err := p.conn.Write(bytes.Join(replies, nil)); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTooLarge(t *testing.T) {
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		a := newAPI([]event{{body: `1`}, {body: `2`}})
		p := script(t, rt, c, a.next(), []byte("HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 2\r\n\r\n{}"), a.next())
		in := bufio.NewReader(p.conn)
		p.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		var got []string
		for range 5 {
			r, err := http.ReadRequest(in)
			if err != nil {
				t.Fatalf("after %v: %v\n%s", got, err, p.output.String())
			}
			body, _ := io.ReadAll(r.Body)
			got = append(got, r.Method+string(body))
		}
		if s := strings.Join(got, " "); s != "GET POST1 GET POST2 GET" {
			t.Error(s)
		}
	})
}

func TestRefused(t *testing.T) {
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		p := script(t, rt, c, []byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"))
		if s := p.exitStatus(t); s != "exit status 1" || !strings.Contains(p.output.String(), "status 403") {
			t.Errorf("%s, said %q", s, p.output.String())
		}
	})
}

func TestChildrenDoNotInherit(t *testing.T) {
	bothAgents(t, "children", func(t *testing.T, rt lambent.Runtime, c call) {
		c.events = one
		got := run(t, rt, c)
		var fds [2]string // where our descriptor 3 leads, and all of a child's
		if err := json.Unmarshal([]byte(got.Answers[0].Body), &fds); err != nil {
			t.Fatalf("%v: %+v", err, got)
		}
		if !strings.HasPrefix(fds[0], "socket:") || strings.Contains(fds[1], fds[0]) {
			t.Errorf("descriptor 3 is %s, a child has\n%s", fds[0], fds[1])
		}
	})
}

// TestHandlerOnTheConnection: a handler that closes descriptor 3 ends its own
// instance; the agent does not hang on it.
func TestHandlerOnTheConnection(t *testing.T) {
	bothAgents(t, "close", func(t *testing.T, rt lambent.Runtime, c call) {
		c.events = one
		if got := run(t, rt, c); got.Exit == "" || got.Exit == "exit status 0" {
			t.Errorf("%+v", got)
		}
	})
}

// TestParkedEnvironment: nothing of what the agent was booted with is left.
func TestParkedEnvironment(t *testing.T) {
	bothAgents(t, "echo", func(t *testing.T, rt lambent.Runtime, c call) {
		rt.Env = map[string]string{"LEFT_FROM_BOOT": "1", "PATH": "/usr/bin:/bin"}
		c.events = one
		c.files = map[string]string{"app.py": "import os\ndef h(e, c):\n    return os.environ.get('LEFT_FROM_BOOT', '-') + os.popen('echo $LEFT_FROM_BOOT').read().strip()\n",
			"app.js": "exports.h = async () => (process.env.LEFT_FROM_BOOT ?? '-') + require('child_process').execSync('echo $LEFT_FROM_BOOT').toString().trim()"}
		if got := run(t, rt, c); got.Answers[0].Body != `"-"` {
			t.Errorf("%+v", got)
		}
	})
}

// TestVersions runs the cases that matter most on every version that is here.
func TestVersions(t *testing.T) {
	for _, rt := range append(family(t, "python3"), family(t, "nodejs")...) {
		t.Run(rt.Name, func(t *testing.T) {
			language, cases := "python", pythonCases
			names := []string{"echo", "raise", "no module", "no function", "no dot", "sys.exit", "named tuple", "decimal", "context", "logging", "logging as JSON", "environment", "in a package", "print"}
			if strings.HasPrefix(rt.Name, "nodejs") {
				language, cases = "nodejs", nodeCases
				if rt.Name >= "nodejs24" {
					language = "nodejs24"
				}
				names = []string{"echo", "throw", "no module", "module", "module by type", "cjs", "console", "stream, HTTP", "stream, throws midway", "environment", "nested export"}
			}
			golden := readGolden(t, language)
			for _, name := range names {
				t.Run(name, func(t *testing.T) { check(t, golden, name, run(t, rt, cases[name])) })
			}
		})
	}
}
