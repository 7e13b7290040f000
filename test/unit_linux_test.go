package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"lambent/client"
	"lambent/test/daemon"
)

// TestServesWithTheUnitsRights: the capabilities that packaging/lambent.service leaves a
// server are all that it needs, also without ways to others. (test/vm has systemd run
// the unit.)
func TestServesWithTheUnitsRights(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "needs root, for sandboxes")
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		missing(t, "needs setpriv: apt-get install util-linux")
	}
	unit, err := os.ReadFile("../packaging/lambent.service")
	if err != nil {
		t.Fatal(err)
	}
	bound := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(unit)
	if bound == nil {
		t.Fatal("the unit bounds no capabilities")
	}
	list := "-all"
	for name := range strings.FieldsSeq(string(bound[1])) {
		list += ",+" + strings.ToLower(strings.TrimPrefix(name, "CAP_"))
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Rel(here, filepath.Join(daemon.Dir(t), "data")) // as one says it who tries the program
	if err != nil {
		t.Fatal(err)
	}
	d := daemon.StartUnder(t, []string{setpriv, "--no-new-privs", "--bounding-set", list}, data, "--driver", "namespace")
	code := upload(t, d, "app.py", "def handler(event, context):\n    return event\n")
	if _, err := d.Deploy(t.Context(), "echo", &client.DeployRequest{
		Runtime: new("python3"), Handler: new("app.handler"), Code: code, Network: []string{"10.1.2.3:80"},
	}, nil); err != nil {
		t.Fatal(err)
	}
	var answer bytes.Buffer
	if _, err := d.Invoke(t.Context(), client.InvokeRequest{Name: "echo", Payload: strings.NewReader(`"hello"`)}, &answer); err != nil || answer.String() != `"hello"` {
		t.Errorf("%s, %v", &answer, err)
	}
	d.Signal(syscall.SIGTERM)
	if state, said := d.Wait(t); state.ExitCode() != 0 || strings.Contains(said, "ERROR") || strings.Contains(said, "WARN") {
		t.Errorf("the server ended with %v, and said:\n%s", state, said)
	}
}
