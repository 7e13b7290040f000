package gcf_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/guest/gcf"
	"lambent/guest/guesttest"
	"lambent/guest/platformtest"
)

// A parked thing of the tests: a language, and how its functions name their file.
type parked struct {
	language, family string
	source           string // FUNCTION_SOURCE
	fixed            string // a variable that only works at exec, and changes nothing
}

var bothParked = []parked{
	{"node", "google-nodejs", "identity.js", "NODE_REDIRECT_WARNINGS"},
	{"python", "google-python", "identity.py", "PYTHONSTARTUP"},
}

// chosen says what is loaded ahead for a configuration.
func chosen(p *platformtest.Platform, c lambent.Config) error {
	rev := lambent.NewRevision(lambent.Name{Project: lambent.DefaultProject, Function: "suite"}, lambent.Latest, &c)
	_, err := new(gcf.Guest).Ahead(p.Runtimes[c.Runtime], rev, c.Code)
	return err
}

// TestIndistinguishable asks a function for all that it can find out about its process:
// one that was executed for it, one that was booted before, and one that had loaded the
// framework before.
func TestIndistinguishable(t *testing.T) {
	for _, l := range bothParked {
		t.Run(l.language, func(t *testing.T) {
			p := platformtest.New(t, "namespace")
			plain := p.Runtimes[p.Newest(t, l.family)]
			p.LoadAhead(t, l.language)
			c := on(t, p, l.family, framework(t, l.language))
			c.Handler, c.Env = "identity", map[string]string{"FUNCTION_SOURCE": l.source, "MARK": "1"}
			tell := func(f guesttest.Platform) map[string]any {
				a := ask(t, f, "POST", "/", map[string][]string{"Content-Type": {"text/plain"}}, []byte("said"))
				return decode[map[string]any](t, body(t, a))
			}
			if err := chosen(p, c); err != nil {
				t.Fatalf("the framework is not loaded ahead: %v", err)
			}
			f := p.Deploy(t, c.WithDefaults())
			loaded := tell(f)
			for parked := f.Invoker.(*dispatch.Dispatcher).Snapshot; parked().Parked < 2; {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(time.Second) // they rehearse
			fault(t, get(t, f, "/crash"), lambent.FaultExit, "signal: killed")
			rehearsed := tell(f)
			p.Runtimes[plain.Name] = plain
			booted := tell(p.Deploy(t, c.WithDefaults()))
			delete(c.Env, "MARK")
			c.Env[l.fixed] = ""
			executed := tell(p.Deploy(t, c.WithDefaults()))
			differ(t, "booted before", executed, booted)
			differ(t, "loaded before", executed, loaded)
			differ(t, "rehearsed", executed, rehearsed)
		})
	}
}

// differ fails the test for each thing that differs.
func differ(t *testing.T, what string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			for k, v := range want {
				differ(t, what+" "+k, v, got[k])
			}
			for k, v := range got {
				if _, ok := want[k]; !ok {
					differ(t, what+" "+k, nil, v)
				}
			}
			return
		}
	}
	if !reflect.DeepEqual(want, got) {
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		t.Errorf("%s:\n%.1500s\nand not\n%.1500s", what, b, a)
	}
}

var _ = guesttest.Platform{}
var _ = os.Getenv
var _ = filepath.Join
var _ = strings.Contains
