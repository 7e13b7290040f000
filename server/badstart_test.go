package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/server"
	"lambent/server/servertest"
)

// program builds the command, where every user can execute it.
func program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(servertest.PublicDir(t), "lambent")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", file, "lambent/cmd/lambent")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return file
}

// A server that cannot start says so in one line, and in another what mends it;
// and it changes nothing of what it found.
func TestBadStart(t *testing.T) {
	file := program(t)
	running := servertest.Start(t)
	running.Python(t, "hello", hello)
	running.Compiled(t) // nothing is written any more
	root := os.Geteuid() == 0
	dir := func(t *testing.T) string { return filepath.Join(servertest.PublicDir(t), "data") }
	made := func(t *testing.T, files map[string]string) string { // a data directory that a server has been on
		d := dir(t)
		s := servertest.Start(t, func(c *server.Config) { c.Data = d })
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(d, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	const nobody = 65534
	for _, c := range []struct {
		name    string
		needs   string // "root"; "setpriv", which takes a capability from it
		prepare func(t *testing.T) (args []string, uid int)
		want    string // a regular expression; DIR is the data directory
		try     string
	}{
		{"port taken", "", func(t *testing.T) ([]string, int) {
			return []string{"--listen", running.Addr(), "--data", dir(t)}, 0
		}, `127\.0\.0\.1:\d+ is in use by another program, perhaps another lambent: .*address already in use`, `lambent serve --listen 127.0.0.1:0`},
		{"data directory in use", "", func(*testing.T) ([]string, int) {
			return []string{"--data", running.Data}, 0
		}, `data directory DIR is in use by the lambent server with pid ` + strconv.Itoa(os.Getpid()) + ` on ` + running.Addr(), `kill ` + strconv.Itoa(os.Getpid())},
		{"someone else's data directory", "root", func(t *testing.T) ([]string, int) {
			d := made(t, nil)
			if err := os.Chown(d, nobody, nobody); err != nil {
				t.Fatal(err)
			}
			return []string{"--data", d}, 0
		}, `data directory DIR belongs to uid 65534, and this process runs as uid 0`, `chown -R 0 DIR`},
		{"root's data directory", "root", func(t *testing.T) ([]string, int) {
			return []string{"--data", made(t, nil)}, nobody
		}, `data directory DIR belongs to uid 0, and this process runs as uid 65534`, `chown -R 65534 DIR`},
		{"not allowed to make one", "root", func(t *testing.T) ([]string, int) {
			return []string{"--data", dir(t)}, nobody
		}, `the data directory DIR cannot be made: mkdir DIR: permission denied`, `lambent serve --data DIR`},
		{"a directory above that others cannot pass", "root", func(t *testing.T) ([]string, int) {
			d := dir(t)
			if err := os.Chmod(filepath.Dir(d), 0o700); err != nil {
				t.Fatal(err)
			}
			return []string{"--data", d}, 0
		}, `functions run as users of their own and cannot reach the data directory DIR: .* is closed to them`, `lambent serve --data /var/lib/lambent .*chmod o\+x .*`},
		{"root that may not isolate", "setpriv", func(t *testing.T) ([]string, int) {
			return []string{"--data", dir(t)}, 0
		}, `the driver namespace does not work here: .*operation not permitted.*`, `lambent doctor .*lambent serve --driver process.*`},
		{"a file instead", "", func(t *testing.T) ([]string, int) {
			d := dir(t)
			if err := os.WriteFile(d, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"--data", d}, 0
		}, `the data directory DIR cannot be made: mkdir DIR: not a directory`, `lambent serve --data DIR`},
		{"a newer format", "", func(t *testing.T) ([]string, int) {
			return []string{"--data", made(t, map[string]string{"format": "format 2\nmode single\n"})}, 0
		}, `data directory DIR has format 2, made by a newer lambent; this one reads up to format 1`, `lambent version`},
		{"another mode", "", func(t *testing.T) ([]string, int) {
			return []string{"--data", made(t, map[string]string{"format": "format 1\nmode cluster\n"})}, 0
		}, `data directory DIR was made in mode "cluster"; this server runs in mode "single", in which the engine would empty it`, `lambent serve --data DIR`},
		{"a damaged format", "", func(t *testing.T) ([]string, int) {
			return []string{"--data", made(t, map[string]string{"format": "\x00\x00"})}, 0
		}, `DIR/format reads .*, not a format and a mode: it is damaged, or not lambent's.*`, `lambent serve --data DIR`},
		{"a token that others can read", "", func(t *testing.T) ([]string, int) {
			d := made(t, nil)
			if err := os.Chmod(filepath.Join(d, "token"), 0o644); err != nil {
				t.Fatal(err)
			}
			return []string{"--data", d}, 0
		}, `DIR/token has mode 0644, with which other users may read it: it must be 0600`, `chmod 600 DIR/token`},
		{"an empty token", "", func(t *testing.T) ([]string, int) {
			return []string{"--data", made(t, map[string]string{"token": ""})}, 0
		}, `DIR/token does not hold a token .*`, `rm DIR/token .*`},
		{"an address that is none", "", func(t *testing.T) ([]string, int) {
			return []string{"--data", dir(t), "--listen", "9700"}, 0
		}, `--listen "9700" is not an address like 127.0.0.1:9700`, `lambent serve --help`},
		{"an address of another machine", "", func(t *testing.T) ([]string, int) {
			return []string{"--data", dir(t), "--listen", "192.0.2.1:9700", "--insecure"}, 0
		}, `cannot listen on 192.0.2.1:9700: .*cannot assign requested address`, `lambent serve --listen 127.0.0.1:9700`},
		{"open to the network in plain text", "", func(t *testing.T) ([]string, int) {
			return []string{"--data", dir(t), "--listen", ":0"}, 0
		}, `--listen :0 can be reached from other machines: give --tls-cert and --tls-key, or --insecure for plain HTTP`, `lambent serve --help`},
		{"no certificate", "", func(t *testing.T) ([]string, int) {
			return []string{"--data", dir(t), "--tls-cert", "/nowhere/cert.pem", "--tls-key", "/nowhere/key.pem"}, 0
		}, `the certificate of --tls-cert and --tls-key cannot be used: open /nowhere/cert.pem: no such file or directory`, `lambent serve --help`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != "" && !root {
				servertest.Missing(t, "this takes root: to be another user, or to lack what root has")
			}
			args, uid := c.prepare(t)
			data := ""
			for i, a := range args {
				if a == "--data" {
					data = args[i+1]
				}
			}
			if c.name == "data directory in use" || !contains(args, "--listen") {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			before := listing(data)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			argv := append([]string{file, "serve"}, args...)
			if c.needs == "setpriv" {
				argv = append([]string{"setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"}, argv...)
			}
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Dir = "/"
			if uid != 0 {
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
			}
			var out, said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &said
			err := cmd.Run()
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 && exit.ExitCode() != 2 && exit.ExitCode() != 4 {
				t.Errorf("it ends with %v", err)
			}
			if out.Len() > 0 {
				t.Errorf("standard output is data: %q", out.String())
			}
			with := strings.NewReplacer("DIR/", regexp.QuoteMeta(data)+"/", "data directory DIR", "data directory "+regexp.QuoteMeta(data),
				"mkdir DIR", "mkdir "+regexp.QuoteMeta(data), "chown -R 0 DIR", "chown -R 0 "+regexp.QuoteMeta(data),
				"chown -R 65534 DIR", "chown -R 65534 "+regexp.QuoteMeta(data))
			want := fmt.Sprintf("^lambent: %s\n  try: %s\n$", with.Replace(c.want), with.Replace(c.try))
			if !regexp.MustCompile(want).MatchString(said.String()) {
				t.Errorf("it says\n%swant\n%s", said.String(), want)
			}
			if after := listing(data); after != before {
				t.Errorf("the data directory was changed, from\n%s\nto\n%s", before, after)
			}
		})
	}
	if a := running.Get(t, "/fn/hello/"); a.Body != "hello" {
		t.Errorf("the server that was there answers %d %q", a.StatusCode, a.Body)
	}
}

func contains(args []string, arg string) bool {
	for _, a := range args {
		if a == arg {
			return true
		}
	}
	return false
}

// listing is what a directory holds, by name and size.
func listing(dir string) string {
	var b strings.Builder
	_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			fmt.Fprintln(&b, path, info.Size())
		}
		return nil
	})
	return b.String()
}

// A server that could not start has given everything back: the next one starts.
func TestBadStartLeavesNothing(t *testing.T) {
	running := servertest.Start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cfg := server.DefaultConfig(os.Getenv)
	cfg.Listen, cfg.Data = address, running.Data
	if s, err := server.Open(t.Context(), cfg); !lambent.Is(err, lambent.Unavailable) || s != nil {
		t.Fatalf("a second server on one data directory: %v", err)
	}
	cfg.Data = filepath.Join(servertest.PublicDir(t), "data")
	s, err := server.Open(t.Context(), cfg) // on the port of the one that failed
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
