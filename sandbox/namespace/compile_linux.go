//go:build amd64 || arm64

package namespace

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/sandbox"
)

const (
	maxCompiled = 1 << 20
	compileFor  = 10 * time.Second
)

// compile has a runtime's program make what its agent boots faster by, once for
// each root, in the background: in a sandbox in which nothing else ever runs, of the
// same root, so that whoever trusts the one with the result trusts the other.
func (d *Driver) compile(r *root, rt lambent.Runtime) {
	if len(rt.Compile) == 0 || filepath.Base(rt.Name) != rt.Name {
		return
	}
	d.rootMu.Lock()
	defer d.rootMu.Unlock()
	if r.begun[rt.Name] || r.gone {
		return
	}
	d.mu.Lock() // Close waits for those that have begun before it
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	r.begun[rt.Name] = true
	r.compiling++
	d.compiling.Go(func() {
		defer func() {
			d.rootMu.Lock()
			r.compiling--
			d.rootMu.Unlock()
		}()
		if err := d.compileInto(r, rt); err != nil {
			d.log.Debug("a runtime's agent is not compiled", "runtime", rt.Name, "error", err)
		}
	})
}

func (d *Driver) compileInto(r *root, rt lambent.Runtime) error {
	ctx, cancel := context.WithTimeout(context.Background(), compileFor)
	defer cancel()
	plain := rt
	plain.Boot, plain.Compile, plain.Ahead = nil, nil, true
	s, err := d.park(r, plain)
	if err != nil {
		return err
	}
	defer s.Output().Close()
	defer s.Destroy() // its failure, and what it printed, are of no interest
	defer context.AfterFunc(ctx, func() { _ = s.Destroy() })()
	if err := s.run("/", rt.Compile, envList(rt.Env)); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(s.Output(), maxCompiled+1))
	if err == nil && len(b) > maxCompiled {
		err = fmt.Errorf("it prints more than %d bytes", maxCompiled)
	}
	if err != nil {
		return err
	}
	<-s.Done()
	if e := s.Exit(); e != (sandbox.Exit{}) {
		return fmt.Errorf("it failed: %v", e)
	}
	return r.keep(rt.Name, b)
}

// keep puts a file into the root, whole or not at all.
func (r *root) keep(name string, content []byte) error {
	dir, part := int(r.compiled.Fd()), "."+name
	fd, err := unix.Openat(dir, part, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return err
	}
	n, err := unix.Write(fd, content)
	unix.Close(fd)
	if err == nil && n < len(content) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = unix.Renameat(dir, part, dir, name)
	}
	if err != nil {
		_ = unix.Unlinkat(dir, part, 0)
	}
	return err
}
