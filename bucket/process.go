package bucket

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"lambent"
)

// A gateway is the process that keeps one project's buckets.
type gateway struct {
	buckets *Buckets
	opts    *Options // theirs
	project string
	access  string
	secret  string
	cmd     *exec.Cmd
	stdin   io.Closer // ends it
	dir     *os.File  // the project's directory
	socket  string
	client  *http.Transport

	readyOnce sync.Once
	ready     chan struct{} // closed when it listens
	done      chan struct{} // closed when it has ended

	// Buckets.mu guards what follows.
	users  int         // requests under way
	idle   *time.Timer // since nobody uses it; nil: somebody always has
	copies int64       // bytes that it is promised for what it copies
}

// Names in a project's directory; what else is there is source/object's.
const (
	objectsDir  = "objects"
	versionsDir = "versions"
	sideCarDir  = "attributes"
	lockFile    = "lock"
	socketFile  = "socket"
)

// start starts the gateway of a project.
func start(b *Buckets, project string) (_ *gateway, err error) {
	o := &b.opts
	for _, dir := range []string{objectsDir, versionsDir} {
		if err := os.MkdirAll(o.project(project, dir), 0o700); err != nil {
			return nil, err
		}
	}
	g := &gateway{buckets: b, opts: o, project: project, access: lambent.AccountID(project), secret: rand.Text(), ready: make(chan struct{}), done: make(chan struct{})}
	if g.dir, err = os.Open(o.project(project)); err != nil {
		return nil, err
	}
	if g.socket = o.project(project, socketFile); len(g.socket) > maxSocketPath {
		g.socket = fmt.Sprintf("/proc/self/fd/%d/%s", g.dir.Fd(), socketFile)
	}
	g.cmd = exec.Command(o.Program[0], append(o.Program[1:len(o.Program):len(o.Program)], o.project(project))...)
	g.cmd.Env, g.cmd.Stderr = []string{}, &says{g}
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt from the terminal is for the server, which ends it
	stdin, err := g.cmd.StdinPipe()
	var stdout io.ReadCloser
	if err == nil {
		stdout, err = g.cmd.StdoutPipe()
	}
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, g.dir.Close())
	}
	g.stdin = stdin
	server := rpc.NewServer()
	if err := server.RegisterName(service, &serving{g, g.setup()}); err != nil {
		panic("bucket: " + err.Error())
	}
	go server.ServeConn(struct {
		io.Reader
		io.WriteCloser
	}{stdout, stdin})
	g.client = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", g.socket)
			if err != nil {
				return nil, err
			}
			return patient{conn}, nil
		},
		MaxIdleConns: 64, MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
		DisableCompression: true, ReadBufferSize: bufferSize, WriteBufferSize: bufferSize,
	}
	return g, nil
}

func (g *gateway) setup() Setup {
	return Setup{
		Objects: g.opts.project(g.project, objectsDir), Versions: g.opts.project(g.project, versionsDir), SideCar: g.opts.project(g.project, sideCarDir),
		Lock: g.opts.project(g.project, lockFile), Socket: filepath.Join("..", socketFile), // a long path would be none for a socket
		Access: g.access, Secret: g.secret, Region: lambent.Region,
	}
}

// maxSocketPath is what every system takes.
const maxSocketPath = 100

// A patient connection does not mind that the gateway wants no more of a body: it has
// answered, and the answer is what counts.
type patient struct{ net.Conn }

// Write implements io.Writer.
func (c patient) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return len(p), nil
	}
	return n, err
}

// says has what a gateway writes in the server's log.
type says struct{ g *gateway }

// colour is what terminals are told of it.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// Write implements io.Writer.
func (s *says) Write(p []byte) (int, error) {
	for line := range strings.Lines(colour.ReplaceAllString(string(p), "")) {
		s.g.opts.Logger.Warn("a gateway of buckets says", "project", s.g.project, "text", strings.TrimSpace(line))
	}
	return len(p), nil
}

// end has it end.
func (g *gateway) end() { _ = g.stdin.Close() }

// wait returns when it has ended.
func (g *gateway) wait() {
	err := g.cmd.Wait()
	g.client.CloseIdleConnections()
	_ = g.dir.Close()
	if err != nil {
		g.opts.Logger.Warn("a gateway of buckets has failed; the next request starts another", "project", g.project, "error", err)
	}
}
