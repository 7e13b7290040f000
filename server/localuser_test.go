package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lambent/client"
	"lambent/server/servertest"
)

// Another user of the machine can reach the port and cannot use it: the token is
// in a file that only the server's user reads.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		servertest.Missing(t, "this takes root: to be another user")
	}
	file := program(t)
	s := servertest.Start(t, servertest.Plain)
	s.Python(t, "f", hello)
	dir := servertest.PublicDir(t)
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(hello), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"list"}, {"deploy", dir, "--name", "g"}, {"invoke", "f"}, {"delete", "f"}, {"logs", "f"}, {"usage"}} {
		for _, token := range []string{"", "lmb_guess"} {
			cmd := exec.Command(file, args...)
			cmd.Dir = "/"
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LAMBENT_URL=" + s.URL(), "LAMBENT_DATA=" + s.Data, "HOME=/nonexistent"}
			if token != "" {
				cmd.Env = append(cmd.Env, "LAMBENT_TOKEN="+token)
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			var out, said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &said
			err := cmd.Run()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.ExitCode() != 4 || out.Len() > 0 || strings.Count(said.String(), "\nlambent: ") > 1 || !strings.Contains(said.String(), "lambent: ") || !strings.Contains(said.String(), "token") {
				t.Errorf("lambent %s with token %q: %v\n%s%s", strings.Join(args, " "), token, err, out.String(), said.String())
			}
		}
	}
	if _, err := s.Client.Function(t.Context(), "f"); err != nil {
		t.Errorf("the function: %v", err)
	}
	if _, err := s.Client.Function(t.Context(), "g"); err == nil {
		t.Error("another user has deployed a function")
	}
}

// Nor can a function, from inside. (The process driver promises no isolation; as
// root it runs each function under a user of its own.)
func TestFunctionAsLocalUser(t *testing.T) {
	if os.Geteuid() != 0 {
		servertest.Missing(t, "this takes root: without it functions run as the server's user")
	}
	s := servertest.Start(t, servertest.Plain)
	s.Python(t, "f", `import os, urllib.request, urllib.error
def attempt(f):
    try:
        return "GOT %r" % (f(),)
    except OSError as e:
        return str(e)
def handler(event, context):
    d = event["data"]
    got = {p: attempt(lambda: open(os.path.join(d, p)).read()) for p in ("token", "lock", "format")}
    got.update({p: attempt(lambda: os.listdir(os.path.join(d, p))) for p in ("", "state", "logs", "ledger", "run")})
    got["write"] = attempt(lambda: open(os.path.join(d, "code", "x"), "w"))
    got["environ"] = [k for k in os.environ if k.startswith("LAMBENT")]
    got["server's memory"] = attempt(lambda: open("/proc/%d/environ" % event["pid"]).read())
    got["api"] = attempt(lambda: urllib.request.urlopen(event["url"] + "/v1/functions").read())
    return got
`)
	var out bytes.Buffer
	payload, err := json.Marshal(map[string]any{"data": s.Data, "pid": os.Getpid(), "url": s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: "f", Payload: bytes.NewReader(payload)}, &out)
	if err != nil || o.Fault != "" {
		t.Fatalf("%+v, %v", o, err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || len(got) != 12 {
		t.Fatalf("%s, %v", out.String(), err)
	}
	for what, result := range got {
		switch r := result.(type) {
		case []any:
			if len(r) > 0 {
				t.Errorf("%s: %v", what, r)
			}
		case string:
			if !strings.Contains(r, "denied") && !strings.Contains(r, "401") {
				t.Errorf("%s: %s", what, r)
			}
		}
	}
}
