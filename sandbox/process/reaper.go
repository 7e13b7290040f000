package process

import (
	_ "embed"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"lambent"
)

//go:embed reaper.sh
var reaperScript string

// A reaper is a small shell that outlives the server by a moment: it kills the
// process groups that a `kill -9` of the server would leave. The parent-death
// signal does the same for first processes on Linux, but not for their children,
// and macOS has none.
type reaper struct {
	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.WriteCloser
}

func startReaper() (*reaper, error) {
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "lambent-reaper")
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's ^C is not for it
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, lambent.Errorf(lambent.Internal, "process.New", "cannot start the reaper: %w", err)
	}
	return &reaper{cmd: cmd, in: in}, nil
}

func (r *reaper) add(pgid int)    { r.tell('+', pgid) }
func (r *reaper) remove(pgid int) { r.tell('-', pgid) }

func (r *reaper) tell(op byte, pgid int) {
	line := strconv.AppendInt([]byte{op, ' '}, int64(pgid), 10)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = r.in.Write(append(line, '\n')) // a dead reaper is no reason to stop serving
}

func (r *reaper) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.in.Close(); err != nil && err != os.ErrClosed {
		return err
	}
	return r.cmd.Wait()
}
