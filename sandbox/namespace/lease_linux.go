//go:build amd64 || arm64

package namespace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"lambent"
)

// Users, networks and control groups are the machine's. Each server leases a
// number by a lock on a file, and takes only what belongs to its number: several
// servers run side by side, and a new one knows what its predecessor has left.
const (
	maxServers = 13   // so that the user ids of all slots fit below 2^32
	maxSlots   = 4096 // for each server
	leaseDir   = "/run/lambent"

	workshopDir = leaseDir + "/workshop" // empty, but for the threads of each server

	firstUser    = 1 << 28 // above what distributions hand out
	usersPerSlot = 1 << 16 // what programs expect of a user namespace
)

// A lease holds a number until it is closed.
type lease struct {
	server int
	lock   *os.File
}

func takeLease() (*lease, error) {
	const op = "namespace.New"
	if err := errors.Join(os.MkdirAll(leaseDir, 0o755), os.MkdirAll(workshopDir, 0o700)); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "cannot lease user ids: %w", err)
	}
	for n := range maxServers {
		f, err := os.OpenFile(fmt.Sprintf("%s/sandboxes-%d.lock", leaseDir, n), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, lambent.Errorf(lambent.Internal, op, "cannot lease user ids: %w", err)
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return &lease{n, f}, nil
		}
		f.Close()
	}
	return nil, lambent.Errorf(lambent.Unavailable, op, "%d servers have sandboxes on this machine already", maxServers)
}

func (l *lease) close() error { return l.lock.Close() }

// firstUser is the id on the host of what is user 0 in a slot.
func (l *lease) firstUser(slot int) int { return firstUser + (l.server*maxSlots+slot)*usersPerSlot }

// makeUsers makes the user namespace of a slot. It belongs to a user of the slot:
// what the kernel counts by user in a namespace (watchers of files, waiting
// signals, ...) it also counts for the namespace's owner, and if that was root all
// sandboxes would share one count, with each other and with the host.
func makeUsers(init *os.File, first int) (_ *os.File, err error) {
	defer func() {
		if err != nil {
			err = lambent.Errorf(lambent.Unsupported, "namespace.Park", "cannot make a user namespace: %w", err)
		}
	}()
	cmd := &exec.Cmd{
		Path: "/proc/self/fd/3", Args: []string{"init", "hold"}, ExtraFiles: []*os.File{init}, Env: []string{},
		SysProcAttr: &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: uint32(first), Gid: uint32(first)},
			AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN}, // distributions that let no user make one ask for it
		},
	}
	hold, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	says, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		hold.Close()
		_ = cmd.Wait()
	}()
	var errno [1]byte
	if _, err := io.ReadFull(says, errno[:]); err != nil {
		return nil, err
	}
	if errno[0] != 0 {
		return nil, syscall.Errno(errno[0])
	}
	proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	for _, ids := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(proc+ids, fmt.Appendf(nil, "0 %d %d", first, usersPerSlot), 0); err != nil {
			return nil, err
		}
	}
	return os.Open(proc + "ns/user")
}
