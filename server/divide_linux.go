package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/runtimes"
	"lambent/sandbox"
	"lambent/sandbox/jail"
	"lambent/sandbox/namespace"
)

// A server that is started as root divides itself, because only the making of
// sandboxes needs root, and nothing that parses what strangers send should have
// it: it starts the jail, a process that makes sandboxes and hears nobody else
// (package jail), and then becomes, in its own place, an unprivileged user's
// program with the jail's socket and the port already open.

// inherited names what the program finds when it runs the second time: file
// descriptors of the jail's socket and of the listener.
const inherited = "LAMBENT_DIVIDED"

// serverUser is who the server is where no user "lambent" exists: nobody's
// number, below those that sandboxes get.
const serverUser = 1<<28 - 1

// Divide makes the calling process the unprivileged half of a server. Where that
// works it does not return: the program runs again, as another user, with the same
// arguments, and calls Divide again, which then takes over what was prepared for
// it. It returns nil, too, where there is nothing to divide (not root, --user
// root, --driver process).
func Divide(cfg *Config, args, env []string) error {
	if fds := inheritedFrom(env); fds != "" {
		return cfg.inherit(fds)
	}
	if os.Geteuid() != 0 || cfg.User == "root" || cfg.Driver == driverProcess {
		return nil
	}
	if err := cfg.Validate(); err != nil {
		return err
	}
	uid, gid, err := cfg.user()
	if err != nil {
		return err
	}
	l, err := listen(cfg.Listen) // a second server is to fail before it touches anything
	if err != nil {
		return err
	}
	defer l.Close()
	if err := cfg.giveData(uid, gid); err != nil {
		return err
	}
	socket, err := cfg.startJail()
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := jail.Await(socket); err != nil {
		return noNamespaces(err)
	}
	listener, err := l.(*net.TCPListener).File()
	if err != nil {
		return lambent.Errorf(lambent.Internal, "serve", "%w", err)
	}
	return become(uid, gid, args, env, socket, listener)
}

func inheritedFrom(env []string) string {
	for _, v := range env {
		if fds, ok := strings.CutPrefix(v, inherited+"="); ok {
			return fds
		}
	}
	return ""
}

// inherit takes over what the first run has prepared.
func (c *Config) inherit(fds string) error {
	var socket, listener int
	if _, err := fmt.Sscanf(fds, "%d,%d", &socket, &listener); err != nil || socket < 3 || listener < 3 {
		return lambent.Errorf(lambent.Invalid, "serve", "%s=%q is for this program's own use", inherited, fds)
	}
	unix.CloseOnExec(socket)
	unix.CloseOnExec(listener)
	c.jail = os.NewFile(uintptr(socket), "jail")
	f := os.NewFile(uintptr(listener), "port")
	defer f.Close() // FileListener has a duplicate
	l, err := net.FileListener(f)
	if err != nil {
		return lambent.Errorf(lambent.Invalid, "serve", "%s=%q: %w", inherited, fds, err)
	}
	c.listener = l
	return nil
}

// user returns the ids that the server is to run under.
func (c *Config) user() (uid, gid int, err error) {
	name := c.User
	if name == "" {
		name = "lambent"
	}
	u, err := user.Lookup(name)
	if err != nil && c.User == "" {
		return serverUser, serverUser, nil
	}
	if err != nil {
		return 0, 0, lambent.Errorf(lambent.Invalid, "serve", "--user %s: there is no such user", name).WithHint("useradd --system %s", name)
	}
	uid, err = strconv.Atoi(u.Uid)
	if err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	if err != nil || uid == 0 {
		return 0, 0, lambent.Errorf(lambent.Invalid, "serve", "--user %s: its number is %s", name, u.Uid).WithHint("lambent serve --user root")
	}
	return uid, gid, nil
}

// startJail starts the privileged half, and returns the socket to it.
func (c *Config) startJail() (*os.File, error) {
	ours, theirs, err := jail.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe", "jail", "--data", c.Data)
	cmd.Args[0] = "lambent"
	cmd.Env, cmd.Stderr, cmd.ExtraFiles = []string{"PATH=" + c.Path}, os.Stderr, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // an interrupt from the terminal is for the server, which ends it
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, lambent.Errorf(lambent.Internal, "serve", "the process that makes sandboxes cannot be started: %w", err)
	}
	return ours, nil
}

// become runs the program again, as another user, without a way to rights, in this
// process: for whoever started it nothing changes. It returns only its failure.
func become(uid, gid int, args, env []string, socket, listener *os.File) error {
	// Credentials belong to threads, and the thread that executes is the one that stays.
	runtime.LockOSThread()
	var fds []string
	for _, f := range []*os.File{socket, listener} {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
			return lambent.Errorf(lambent.Internal, "serve", "%w", err)
		}
		fds = append(fds, strconv.Itoa(int(f.Fd())))
	}
	set := func(trap uintptr, a, b, c uintptr) error {
		if _, _, e := unix.RawSyscall(trap, a, b, c); e != 0 {
			return e
		}
		return nil
	}
	var bounded error
	for c := uintptr(0); bounded == nil; c++ {
		bounded = unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
	}
	if bounded == unix.EINVAL { // there is no such capability: it was the last
		bounded = nil
	}
	err := errors.Join(
		bounded,
		set(unix.SYS_SETGROUPS, 0, 0, 0),
		set(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)),
		set(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)), // which drops every capability
		unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
	)
	if err == nil {
		err = syscall.Exec("/proc/self/exe", args, append(slices.Clone(env), inherited+"="+strings.Join(fds, ",")))
	}
	return lambent.Errorf(lambent.Internal, "serve", "the server cannot go on as user %d: %w", uid, err).
		WithHint("chmod a+rx %s   (or: lambent serve --user root)", args[0])
}

// Jail is the privileged half: it makes sandboxes for the server at the other end
// of the socket until that goes. Of the machine's interpreters it shows those that it
// finds itself, beginning with the path.
func Jail(socket *os.File, data, path string, log *slog.Logger) error {
	// The server's user could speak for a program that runs as itself.
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serverUser - 1, Gid: serverUser - 1}}
	return jail.Serve(socket, jail.Options{Limits: lambent.DefaultLimits(), Logger: log}, func() (sandbox.Driver, error) {
		// Its own copy: what is in the data directory, the server's user can write.
		agents, err := runtimes.Install("/run/lambent")
		if err != nil {
			return nil, err
		}
		return namespace.New(namespace.Options{
			Dir: data, Agents: agents, Code: filepath.Join(data, "code"), Roots: filepath.Join(data, "roots"),
			Interpreters: runtimes.Installed(filepath.SplitList(path), nobody), Yield: true, Logger: log,
		})
	})
}
