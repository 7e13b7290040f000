package test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/test/daemon"
)

// taker is a web server that takes bodies at 25 MB/s, and gives what its path says in MB.
const taker = `import http from "node:http"
import crypto from "node:crypto"
http.createServer(async (req, res) => {
  if (req.method === "GET") {
    const piece = Buffer.alloc(64 << 10, "x")
    for (let i = 0; i < Number(req.url.slice(1)) * 16; i++)
      if (!res.write(piece)) await new Promise((ok) => res.once("drain", ok))
    return res.end()
  }
  const hash = crypto.createHash("sha256"), begun = Date.now()
  let bytes = 0
  for await (const part of req) {
    hash.update(part)
    bytes += part.length
    const early = bytes / (25 << 20) * 1000 - (Date.now() - begun)
    if (early > 5) await new Promise((ok) => setTimeout(ok, early))
  }
  res.end(JSON.stringify({bytes, sum: hash.digest("hex")}))
}).listen(process.env.PORT)
`

// A function that takes 100 MB slowly slows its client, and costs the server no memory,
// nor does one that gives them to a client that is slow.
func TestLargeBodies(t *testing.T) {
	const mb, perSecond = 100, 25 << 20
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	_, err := d.Deploy(t.Context(), "taker", &client.DeployRequest{
		Runtime: new("google-nodejs"), Command: []string{"node", "server.mjs"}, Code: upload(t, d, "server.mjs", taker),
		TimeoutMS: new(int64(60_000)), MemoryMB: new(256), URL: &client.URLRequest{Policy: new(lambent.URLPublic)},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	exchange := func(head string, size int64) (*http.Response, net.Conn) {
		c, err := net.Dial("tcp", strings.TrimPrefix(d.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", head, size); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(c, noise(), size); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%+v, %v", resp, err)
		}
		return resp, c
	}
	for _, head := range []string{"PUT /fn/taker/", "GET /fn/taker/1"} { // whatever there is but once is there
		size := int64(1 << 20)
		if strings.HasPrefix(head, "GET") {
			size = 0
		}
		resp, c := exchange(head, size)
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	flat := func(t *testing.T, do func()) {
		before := map[int]int64{}
		for _, pid := range serverAndJail(d) {
			rise(t, pid)
			before[pid] = peak(t, pid)
		}
		begun := time.Now()
		do()
		took := time.Since(begun)
		for pid, was := range before {
			grown := peak(t, pid) - was
			t.Logf("in %v: %.1f MB, and %.1f MB more at most", took, float64(was)/(1<<20), float64(grown)/(1<<20))
			if grown > 5<<20 {
				t.Errorf("a process of the server has grown by %.1f MB", float64(grown)/(1<<20))
			}
		}
		if took < 3*time.Second {
			t.Errorf("it took %v: nobody was slow", took)
		}
	}
	t.Run("upload", func(t *testing.T) {
		flat(t, func() {
			resp, _ := exchange("PUT /fn/taker/", mb<<20)
			var got struct {
				Bytes int64
				Sum   string
			}
			if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			_, _ = io.CopyN(h, noise(), mb<<20)
			if got.Bytes != mb<<20 || got.Sum != hex.EncodeToString(h.Sum(nil)) {
				t.Errorf("%+v", got)
			}
		})
		if u := records(t, d, "taker", 3)[0]; u.BytesIn != mb<<20 || u.Outcome != lambent.OutcomeOK {
			t.Errorf("%+v", u)
		}
	})
	t.Run("download", func(t *testing.T) {
		flat(t, func() {
			resp, _ := exchange(fmt.Sprintf("GET /fn/taker/%d", mb), 0)
			begun, buf := time.Now(), make([]byte, 256<<10)
			for total := int64(0); ; {
				n, err := resp.Body.Read(buf)
				if total += int64(n); err == io.EOF {
					if total != mb<<20 {
						t.Errorf("%d bytes came", total)
					}
					return
				} else if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Until(begun.Add(time.Duration(float64(total) / perSecond * float64(time.Second))))) // that is the slow client
			}
		})
	})
}

// noise is the same each time, and nowhere the same.
func noise() io.Reader { return rand.NewChaCha8([32]byte{1}) }
