package jail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/sandbox"
)

const (
	version    = 7
	maxMessage = 64 << 10 // an environment has 4 KB, an event does not come this way
	maxFiles   = 8        // descriptors with one message
)

// A hello is the jail's first message, with the outcome of opening its driver.
type hello struct {
	Version   int
	Isolation string
	Meters    int // version of the control groups, as cgroup.NewMeter wants it
	Inside    sandbox.Paths
	Failed    *failure
}

// A request is answered by the response of its number.
type request struct {
	Number  uint64
	Op      operation
	Sandbox uint64           `json:",omitempty"` // the number of its park
	Runtime *lambent.Runtime `json:",omitempty"` // of park
	Task    *sandbox.Task    `json:",omitempty"` // of assign
	Port    int              `json:",omitempty"` // of listen and dial
	// Patience is of dial, in nanoseconds.
	Patience time.Duration `json:",omitempty"`
	Name     string        `json:",omitempty"` // of open
	LeadsTo  []netip.Addr  `json:",omitempty"`
	Part     float64       `json:",omitempty"` // of share
}

type operation string

const (
	park      operation = "park"      // answered with: output, meters (3), sockets for names (2), agent if there is one
	assign    operation = "assign"    //
	listen    operation = "listen"    // answered with the listener
	dial      operation = "dial"      // answered with the connection
	open      operation = "open"      // addresses for a name of the sandbox's network policy
	settle    operation = "settle"    //
	share     operation = "share"     // a part of the processor that the sandbox would have
	freeze    operation = "freeze"    //
	thaw      operation = "thaw"      //
	terminate operation = "terminate" // SIGTERM for the code
	destroy   operation = "destroy"   //
)

// A response answers a request; with Number 0 it tells that a sandbox has ended.
type response struct {
	Number  uint64
	Failed  *failure      `json:",omitempty"`
	ID      string        `json:",omitempty"` // of park
	Sandbox uint64        `json:",omitempty"` // that has ended
	Exit    *sandbox.Exit `json:",omitempty"`
}

// A failure is a [lambent.Error] on its way, with the system's error number if it
// has one: guests tell by it what is the code's fault.
type failure struct {
	Kind, Op, Message, Hint string
	Errno                   syscall.Errno `json:",omitempty"`
}

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Kind: lambent.KindOf(err).String(), Message: err.Error()}
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		f.Op, f.Message, f.Hint = e.Op, e.Message, e.Hint
	}
	errors.As(err, &f.Errno)
	return f
}

func (f *failure) error() error {
	if f == nil {
		return nil
	}
	e := &lambent.Error{Kind: lambent.ParseKind(f.Kind), Op: f.Op, Message: f.Message, Hint: f.Hint}
	if f.Errno != 0 {
		e.Err = f.Errno
	}
	return e
}

// check refuses a request that is not whole or outside of the bounds.
func (r *request) check(l *lambent.Limits) error {
	bad := func(format string, args ...any) error {
		return lambent.Errorf(lambent.Invalid, "jail", format, args...)
	}
	text := []string{r.Name}
	switch {
	case r.Number == 0:
		return bad("a request without a number")
	case r.Op != park && r.Sandbox == 0:
		return bad("%q of no sandbox", r.Op)
	case r.Op == park && r.Runtime == nil, r.Op == assign && r.Task == nil:
		return bad("%q lacks what it is about", r.Op)
	case r.Op == assign && (r.Task.MemoryMB < 1 || r.Task.MemoryMB > l.MaxMemoryMB):
		return bad("memory of %d MB", r.Task.MemoryMB)
	case r.Op == assign && (r.Task.TmpMB < 1 || r.Task.TmpMB > l.MaxTmpMB):
		return bad("a disk of %d MB", r.Task.TmpMB)
	case (r.Op == listen || r.Op == dial) && (r.Port < 1 || r.Port > 65535):
		return bad("port %d", r.Port)
	case r.Patience < 0 || r.Patience > sandbox.MaxPatience:
		return bad("a patience of %v", r.Patience)
	case r.Op == share && !(r.Part > 0 && r.Part <= 1):
		return bad("a part of %v", r.Part)
	case r.Op == open && (r.Name == "" || len(r.Name) > 253 || len(r.LeadsTo) == 0):
		return bad("a name of %d bytes with %d addresses", len(r.Name), len(r.LeadsTo))
	case slices.ContainsFunc(r.LeadsTo, func(a netip.Addr) bool { return !a.Is4() }):
		return bad("an address that is not of IPv4")
	}
	if r.Runtime != nil {
		text = append(append(append(text, r.Runtime.Root, r.Runtime.Packages, r.Runtime.PackagesAt), r.Runtime.Boot...), r.Runtime.Compile...)
		for k, v := range r.Runtime.Env {
			if k == "" || strings.Contains(k, "=") {
				return bad("a variable named %q", k)
			}
			text = append(text, k, v)
		}
	}
	if r.Task != nil {
		text = append(append(append(text, r.Task.Code, r.Task.Opt), r.Task.Start.Argv...), r.Task.Start.Env...)
		argv, env := r.Task.Start.Argv, r.Task.Start.Env
		if len(argv) == 0 && len(env) > 0 || len(argv) > 0 && argv[0] == "" {
			return bad("an environment of no program")
		}
		for _, v := range env {
			if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
				return bad("a variable %.40q without a name", v)
			}
		}
	}
	for _, s := range text {
		if strings.ContainsRune(s, 0) {
			return bad("a string with a zero byte")
		}
	}
	return nil
}

// A link is one end of the socket pair. Messages are whole or not at all. Several may
// send and receive at a time; each message has one receiver.
type link struct{ conn conn }

// A conn is a *net.UnixConn or a blocking.
type conn interface {
	ReadMsgUnix(b, oob []byte) (n, oobn, flags int, addr *net.UnixAddr, err error)
	WriteMsgUnix(b, oob []byte, addr *net.UnixAddr) (n, oobn int, err error)
	CloseWrite() error
	Close() error
}

// Pair returns the two ends that a jail and its server are connected by: of the
// server's, which is inherited over an exec, and of the jail's.
func Pair() (server, jail *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, lambent.Errorf(lambent.Internal, "jail", "socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "jail"), os.NewFile(uintptr(fds[1]), "server"), nil
}

// newLink takes over a file that Pair has returned.
func newLink(f *os.File) (*link, error) {
	defer f.Close() // FileConn has a duplicate
	c, err := net.FileConn(f)
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "jail", "%w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, lambent.Errorf(lambent.Internal, "jail", "%v is no socket of a jail", c.LocalAddr())
	}
	return &link{u}, nil
}

// blocking is a socket whose readers wait in the kernel, on their own threads. The
// runtime's way, to be told by another thread that there is something to read, costs
// waking one more.
type blocking int

func newBlockingLink(f *os.File) (*link, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "jail", "%w", err)
	}
	return &link{blocking(fd)}, nil
}

func (s blocking) ReadMsgUnix(b, oob []byte) (n, oobn, flags int, _ *net.UnixAddr, err error) {
	for {
		if n, oobn, flags, _, err = unix.Recvmsg(int(s), b, oob, unix.MSG_CMSG_CLOEXEC); err != unix.EINTR {
			return n, oobn, flags, nil, err
		}
	}
}

func (s blocking) WriteMsgUnix(b, oob []byte, _ *net.UnixAddr) (n, oobn int, err error) {
	for {
		if n, err = unix.SendmsgN(int(s), b, oob, nil, unix.MSG_NOSIGNAL); err != unix.EINTR {
			return n, len(oob), err
		}
	}
}

func (s blocking) CloseWrite() error { return unix.Shutdown(int(s), unix.SHUT_WR) }

// end wakes every reader; where the other side is hostile, who waits for it to take
// what it is told, too. Otherwise it hears the answers that are still to come, and
// the end of the connection when the jail has ended.
func (s blocking) end(hostile bool) {
	how := unix.SHUT_RD
	if hostile {
		how = unix.SHUT_RDWR
	}
	_ = unix.Shutdown(int(s), how)
}

// Close closes the socket, which nobody may use any more.
func (s blocking) Close() error { return unix.Close(int(s)) }

// send sends a message with descriptors, which stay the caller's.
func (l *link) send(message any, files ...syscall.Conn) error {
	b, err := json.Marshal(message)
	if err != nil {
		return lambent.Errorf(lambent.Internal, "jail", "%w", err)
	}
	if len(b) > maxMessage {
		return lambent.Errorf(lambent.TooLarge, "jail", "a message of %d bytes, %d are possible", len(b), maxMessage)
	}
	return withDescriptors(files, nil, func(fds []int) error {
		var oob []byte
		if len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		if _, _, err := l.conn.WriteMsgUnix(b, oob, nil); err != nil {
			return lambent.Errorf(lambent.Unavailable, "jail", "the other side is gone: %w", err)
		}
		return nil
	})
}

// withDescriptors calls f with the numbers of descriptors. None can be closed meanwhile, by
// what else is asked for at the same time, and its number be another file's.
func withDescriptors(files []syscall.Conn, fds []int, f func(fds []int) error) error {
	if len(files) == 0 {
		return f(fds)
	}
	raw, err := files[0].SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) { failed = withDescriptors(files[1:], append(fds, int(fd)), f) })
		if err == nil {
			return failed
		}
	}
	return lambent.Errorf(lambent.Internal, "jail", "%w", err)
}

// receive returns the next message's bytes, which are valid until the next call,
// and its descriptors.
func (l *link) receive(buf []byte) ([]byte, []*os.File, error) {
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, oobn, flags, _, err := l.conn.ReadMsgUnix(buf, oob)
	files := filesOf(oob[:oobn])
	if err == nil && n == 0 {
		err = errors.New("the other side is gone")
	}
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("a message of more than %d bytes or %d descriptors", maxMessage, maxFiles)
	}
	if err != nil {
		closeAll(files)
		return nil, nil, lambent.Errorf(lambent.Unavailable, "jail", "%w", err)
	}
	return buf[:n], files, nil
}

func filesOf(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "of the jail"))
		}
	}
	return files
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// decode reads a message strictly: what the protocol does not have is an error.
func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return lambent.Errorf(lambent.Invalid, "jail", "a message that is none: %w", err)
	}
	if d.More() {
		return lambent.Errorf(lambent.Invalid, "jail", "more than one message at once")
	}
	return nil
}
