// Package servertest starts real servers for tests: in this process, on a free
// port of loopback, on a data directory of their own, with functions deployed as
// anybody deploys them. It mocks nothing.
package servertest

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/server"
)

// A Server is a server that serves until its test ends.
type Server struct {
	*server.Server
	Client *client.Client // with the administrator's token
	Data   string         // the data directory
	Token  string         // the administrator's

	close func() error
}

// Start starts a server, of the default configuration but for what change does.
func Start(t testing.TB, change ...func(*server.Config)) *Server {
	t.Helper()
	cfg := server.DefaultConfig(os.Getenv)
	cfg.Listen, cfg.Data, cfg.Gateway = "127.0.0.1:0", "", gatewayProgram
	for _, c := range change {
		c(&cfg)
	}
	if cfg.Data == "" {
		cfg.Data = filepath.Join(PublicDir(t), "data")
	}
	s, err := server.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	token, err := os.ReadFile(s.TokenFile())
	if err != nil {
		t.Fatal(err)
	}
	out := &Server{Server: s, Data: cfg.Data, Token: strings.TrimSpace(string(token))}
	out.Client = client.New(s.URL(), out.Token)
	out.close = sync.OnceValue(func() error {
		out.Client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := s.Close(ctx)
		if e := <-served; e != nil {
			t.Errorf("Serve: %v", e)
		}
		return err
	})
	t.Cleanup(func() {
		if err := out.close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return out
}

// Plain has a server run functions as plain processes, for tests whose functions
// reach into the test by the machine's network or files.
func Plain(c *server.Config) { c.Driver = "process" }

// Stop closes the server before its test ends, with ten seconds of grace.
func (s *Server) Stop() error { return s.close() }

// Port is the port that the server listens on.
func (s *Server) Port() string {
	_, port, _ := net.SplitHostPort(s.Addr())
	return port
}

// Newest returns the newest runtime of a family, such as "python3" or "python", or skips
// the test.
func (s *Server) Newest(t testing.TB, family string) string {
	t.Helper()
	list, err := s.Client.Runtimes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newest := ""
	for _, r := range list {
		if strings.HasPrefix(r.Family, family) {
			newest = r.Name
		}
	}
	if newest == "" {
		Missing(t, "there is no "+family+" that functions can run on")
	}
	return newest
}

// Files are the content of an archive, by path. A name that ends with an asterisk
// is of a program.
type Files map[string]string

// Zip makes an archive. A large one is not compressed: with the race detector a
// megabyte takes a second.
func Zip(t testing.TB, files Files) []byte {
	t.Helper()
	size, method := 0, zip.Deflate
	for _, content := range files {
		size += len(content)
	}
	if size > 1<<20 {
		method = zip.Store
	}
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for name, content := range files {
		name, program := strings.CutSuffix(name, "*")
		h := &zip.FileHeader{Name: name, Method: method}
		h.SetMode(0o644)
		if program {
			h.SetMode(0o755)
		}
		f, err := w.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Deploy uploads files and deploys them.
func (s *Server) Deploy(ctx context.Context, t testing.TB, name string, files Files, r client.DeployRequest) (*client.Function, error) {
	t.Helper()
	archive := Zip(t, files)
	code, err := s.Client.PutCode(ctx, bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, err
	}
	r.Code, r.Zip = code.Digest, code.Zip
	return s.Client.Deploy(ctx, name, &r, nil)
}

// Python deploys a function of one file whose handler is "handler", with a URL for
// everybody, unless change says otherwise.
func (s *Server) Python(t testing.TB, name, source string, change ...func(*client.DeployRequest)) *client.Function {
	t.Helper()
	return s.mustDeploy(t, name, "python", Files{"app.py": source}, change)
}

// Compiled waits until the server has compiled what it has of Python, which it does in the
// background once that has been started, and has written the last of it.
func (s *Server) Compiled(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		made, _ := filepath.Glob(filepath.Join(s.Data, "code", "trees", "*", "__pycache__"))
		under, _ := filepath.Glob(filepath.Join(s.Data, "build", "work", "*"))
		if len(made) > 0 && len(under) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no function in Python was compiled")
		}
	}
}

// Node is what Python is, for JavaScript.
func (s *Server) Node(t testing.TB, name, source string, change ...func(*client.DeployRequest)) *client.Function {
	t.Helper()
	return s.mustDeploy(t, name, "nodejs", Files{"app.mjs": source}, change)
}

func (s *Server) mustDeploy(t testing.TB, name, family string, files Files, change []func(*client.DeployRequest)) *client.Function {
	t.Helper()
	r := client.DeployRequest{
		Runtime: new(s.Newest(t, family)), Handler: new("app.handler"), URL: &client.URLRequest{Policy: new(lambent.URLPublic)},
	}
	for _, c := range change {
		c(&r)
	}
	f, err := s.Deploy(t.Context(), t, name, files, r)
	if err != nil {
		t.Fatalf("deploying %s: %v", name, err)
	}
	return f
}

// An Answer is a response that was read whole.
type Answer struct {
	*http.Response
	Body string
}

// Do sends a request and reads the answer. Redirects are not followed.
func Do(t testing.TB, r *http.Request) Answer {
	t.Helper()
	resp, err := plain.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: the answer broke off: %v", r.Method, r.URL, err)
	}
	return Answer{resp, string(b)}
}

// plain leaves nothing open, so that tests can look for leaks.
var plain = &http.Transport{DisableKeepAlives: true, DisableCompression: true}

// Request makes a request of the server. Of header pairs, "Host" is the Host.
func (s *Server) Request(t testing.TB, method, path string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// Get sends a GET request.
func (s *Server) Get(t testing.TB, path string, header ...string) Answer {
	t.Helper()
	return Do(t, s.Request(t, http.MethodGet, path, nil, header...))
}

// PublicDir returns a directory of the test's that every user can reach: as root,
// functions run under users of their own.
func PublicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lambent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Missing skips a test for something that is not there, or fails it where
// LAMBENT_TEST_REQUIRE says that everything must be.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}
