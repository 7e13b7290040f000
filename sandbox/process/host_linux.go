package process

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"lambent"
)

const (
	firstUser      = 1 << 20 // above the ranges that distributions hand out
	usersPerServer = 4096
	maxServers     = 64
	leaseDir       = "/run/lambent"
)

// A userRange is the block of user ids that this server gives to its sandboxes.
// Blocks are leased by a lock on a file, for the whole machine: two servers must
// not share an id, since an id is killed as a whole.
type userRange struct {
	lock *os.File

	mu   sync.Mutex
	free []int // LIFO
}

// leaseUsers returns nil without error where the server is not root.
func leaseUsers() (*userRange, error) {
	const op = "process.New"
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if err := os.MkdirAll(leaseDir, 0o755); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "cannot lease user ids: %w", err)
	}
	for block := range maxServers {
		f, err := os.OpenFile(fmt.Sprintf("%s/users-%d.lock", leaseDir, block), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, lambent.Errorf(lambent.Internal, op, "cannot lease user ids: %w", err)
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			continue
		}
		r := &userRange{lock: f, free: make([]int, usersPerServer)}
		first := firstUser + block*usersPerServer
		for i := range r.free {
			r.free[i] = first + usersPerServer - 1 - i
		}
		sweepUsers(first, first+usersPerServer)
		return r, nil
	}
	return nil, lambent.Errorf(lambent.Unavailable, op, "%d servers run on this machine already", maxServers)
}

func (r *userRange) take() (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.free) == 0 {
		return -1, lambent.Errorf(lambent.Throttled, "process.Park", "all %d sandboxes of this server are in use", usersPerServer)
	}
	uid := r.free[len(r.free)-1]
	r.free = r.free[:len(r.free)-1]
	return uid, nil
}

func (r *userRange) give(uid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free = append(r.free, uid)
}

func (r *userRange) close() error {
	if r == nil {
		return nil
	}
	return r.lock.Close()
}

// sweepUsers kills every process whose user is in [first, end), also those that
// left their process group, and reports whether none is left. It looks again
// until it finds none: processes fork while it looks.
func sweepUsers(first, end int) bool {
	for range 100 {
		found := false
		dirs, err := os.ReadDir("/proc")
		if err != nil {
			return false
		}
		for _, d := range dirs {
			pid, err := strconv.Atoi(d.Name())
			if err != nil {
				continue
			}
			fi, err := d.Info()
			if err != nil {
				continue
			}
			if uid := int(fi.Sys().(*syscall.Stat_t).Uid); uid >= first && uid < end && syscall.Kill(pid, syscall.SIGKILL) == nil {
				found = true
			}
		}
		if !found {
			return true
		}
	}
	return false
}

// clearUser makes a user id safe to be given out again, and reports whether it is.
func clearUser(uid int) bool { return sweepUsers(uid, uid+1) }

// childAttr gives a child a session and process group of its own.
func childAttr(uid int) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if uid >= 0 {
		a.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	}
	return a
}

// closeInheritedOnExec marks every descriptor that is open now, so that children
// do not get what this process itself was started with. Go marks its own only.
func closeInheritedOnExec() {
	_ = unix.CloseRange(3, 1<<32-1, unix.CLOSE_RANGE_CLOEXEC) // Linux 5.11; older kernels leave them
}

// limitChild sets the limits that AWS Lambda sets; where the user id is the
// sandbox's own, also the number of its processes.
func limitChild(pid int, ownUser bool) {
	set := func(resource int, n uint64) {
		_ = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: n, Max: n}, nil) // the child may be gone already
	}
	set(unix.RLIMIT_CORE, 0)
	set(unix.RLIMIT_NOFILE, 1024)
	if ownUser {
		set(unix.RLIMIT_NPROC, 1024)
	}
}
