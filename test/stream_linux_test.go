package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/test/daemon"
)

// gusher streams as many megabytes as its path, or its event, says, and tells how many
// of its writes had to wait, and for how long it wrote: in our agent the write waits
// itself, elsewhere what is to come after it.
const gusher = `export const handler = awslambda.streamifyResponse(async (event, out) => {
  const mb = Number(event.rawPath ? event.rawPath.slice(1) : event)
  const piece = Buffer.alloc(64 << 10, "x")
  let waits = 0
  const begun = Date.now()
  for (let i = 0; i < mb * 16; i++) {
    const before = Date.now()
    if (!out.write(piece)) await new Promise((ok) => out.once("drain", ok))
    if (Date.now() - before >= 2) waits++
  }
  console.log(JSON.stringify({waits, ms: Date.now() - begun}))
  out.end()
})
`

// peak returns the most memory that a process has had since rise, in bytes.
func peak(t *testing.T, pid int) (hwm int64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "\nVmHWM:")
	_, _ = fmt.Sscan(after, &hwm) // a number of kB, by the kernel
	return hwm << 10
}

// rise has the kernel begin its record of the most memory anew.
func rise(t *testing.T, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// A client that takes 100 MB slowly slows the function, and costs the server no
// memory: what is written waits with who writes it. Its first byte is there at once.
func TestSlowClient(t *testing.T) {
	const mb, perSecond = 100, 25 << 20
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	r := nodejs(upload(t, d, "index.mjs", gusher))
	r.URL = &client.URLRequest{Policy: new(lambent.URLPublic), Stream: new(true)}
	if _, err := d.Deploy(t.Context(), "gusher", r, nil); err != nil {
		t.Fatal(err)
	}
	get := func(mb int) (*http.Response, net.Conn) {
		c, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		fmt.Fprintf(c, "GET /fn/gusher/%d HTTP/1.1\r\nHost: localhost\r\n\r\n", mb)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%+v, %v", resp, err)
		}
		return resp, c
	}
	resp, c := get(1) // whatever there is but once is there
	if n, err := io.Copy(io.Discard, resp.Body); n != 1<<20 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	c.Close()

	processes := serverAndJail(d)
	before := map[int]int64{}
	for _, pid := range processes {
		rise(t, pid)
		before[pid] = peak(t, pid)
	}
	begun := time.Now()
	resp, _ = get(mb)
	buf := make([]byte, 256<<10)
	var total int64
	var first time.Duration
	for {
		n, err := resp.Body.Read(buf)
		if total == 0 {
			first = time.Since(begun)
		}
		total += int64(n)
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(begun.Add(time.Duration(float64(total) / perSecond * float64(time.Second))))) // that is the slow client
	}
	took := time.Since(begun)
	if total != mb<<20 {
		t.Errorf("%d bytes came", total)
	}
	for i, pid := range processes {
		grown := peak(t, pid) - before[pid]
		t.Logf("%s: %.1f MB, and %.1f MB more at most", []string{"the server", "its jail"}[i], float64(before[pid])/(1<<20), float64(grown)/(1<<20))
		if grown > 5<<20 {
			t.Errorf("process %d of %d has grown by %.1f MB", i+1, len(processes), float64(grown)/(1<<20))
		}
	}
	if first > took/10 {
		t.Errorf("the first byte came after %v of %v", first, took)
	}
	var code struct{ Waits, MS int }
	id := records(t, d, "gusher", 2)[0].ID
	for line, err := range d.Logs(t.Context(), "gusher", client.LogQuery{Request: id}) {
		if err != nil {
			t.Fatal(err)
		}
		if at := strings.Index(line.Text, `{"waits"`); at >= 0 {
			if err := json.Unmarshal([]byte(line.Text[at:]), &code); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("first byte after %v, all of them after %v; %d writes of the code waited, and all of them took %d ms", first, took, code.Waits, code.MS)
	if written := time.Duration(code.MS) * time.Millisecond; code.Waits < 10 || written < took*3/4 {
		t.Errorf("the code was not slowed: %d waits, %v", code.Waits, written)
	}
}

// A stream ends at 200 MB, with the error that says so.
func TestStreamIsLimited(t *testing.T) {
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	r := nodejs(upload(t, d, "index.mjs", gusher))
	r.URL = &client.URLRequest{Policy: new(lambent.URLPublic), Stream: new(true)}
	if _, err := d.Deploy(t.Context(), "gusher", r, nil); err != nil {
		t.Fatal(err)
	}
	for _, mb := range []int{200, 201} {
		var n counter
		o, err := d.Invoke(t.Context(), client.InvokeRequest{Name: "gusher", Payload: strings.NewReader(fmt.Sprint(mb))}, &n)
		if err != nil {
			t.Fatal(err)
		}
		u := records(t, d, "gusher", 1)[0]
		if mb == 200 && (n != 200<<20 || o.Fault != "" || u.Outcome != lambent.OutcomeOK) {
			t.Errorf("%d MB: %d bytes, %+v, %+v", mb, n, o, u)
		}
		want := "Function.ResponseSizeTooLarge: Response payload size exceeded maximum allowed payload size (209715200 bytes)."
		if mb > 200 && (n > 200<<20+64<<10 || o.Fault != lambent.FaultTooBig || o.FaultMessage != want || u.Outcome != string(lambent.FaultTooBig)) {
			t.Errorf("%d MB: %d bytes, %+v, %+v", mb, n, o, u)
		}
	}
	resp, err := http.Get(d.URL + "/fn/gusher/201")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("%d bytes passed for the whole", n)
	}
	var out bytes.Buffer // and the next call is served
	if _, err := d.Invoke(t.Context(), client.InvokeRequest{Name: "gusher", Payload: strings.NewReader("1")}, &out); err != nil || out.Len() != 1<<20 {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }
