package server_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent/server"
	"lambent/server/servertest"
)

// What was learnt of a function's callers is there after a restart, whether or not it is called
// then; and a file of it that is torn costs that, a warning and nothing else.
func TestLearntOutlivesRestarts(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "f", hello)
	file := filepath.Join(s.Data, "learnt.json")
	learnt := func(s *servertest.Server, calls int) (of []byte) {
		t.Helper()
		for range calls {
			if a := s.Get(t, "/fn/f/"); a.StatusCode != http.StatusOK {
				t.Fatalf("the function answers %d %q", a.StatusCode, a.Body)
			}
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		var all map[string][]byte
		if err == nil {
			err = json.Unmarshal(b, &all)
		}
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		return all["default/f"]
	}
	again := func(change ...func(*server.Config)) *servertest.Server {
		return servertest.Start(t, append(change, func(c *server.Config) { c.Data = s.Data })...)
	}
	first := learnt(s, 20)
	if len(first) < 8 {
		t.Fatalf("nothing is learnt of 20 calls: %x", first)
	}
	if kept := learnt(again(), 0); !bytes.Equal(kept, first) {
		t.Errorf("after a restart without calls %x is known, and was %x", kept, first)
	}
	if more := learnt(again(), 2); bytes.Equal(more, first) || len(more) < len(first) {
		t.Errorf("two calls after a restart make %x of %x", more, first)
	}

	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, b[:len(b)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	torn := again(func(c *server.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if anew := learnt(torn, 2); len(anew) == 0 || len(anew) > len(first) || !strings.Contains(log.String(), "cannot be read: learning it anew") {
		t.Errorf("of half of a file %x is made, which was %x; the log says %s", anew, first, log.String())
	}
}
