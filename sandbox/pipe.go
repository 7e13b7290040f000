package sandbox

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"lambent"
)

// OutputPipe returns a pipe whose read end is non-blocking and whose write end,
// a child's standard output, is not: programs do not expect EAGAIN there.
// For drivers: see [Sandbox.Output].
func OutputPipe() (read, write *os.File, err error) {
	var p [2]int
	syscall.ForkLock.RLock()
	err = syscall.Pipe(p[:])
	if err == nil {
		syscall.CloseOnExec(p[0])
		syscall.CloseOnExec(p[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("pipe", err)
	}
	if err := syscall.SetNonblock(p[0], true); err != nil {
		syscall.Close(p[0])
		syscall.Close(p[1])
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(p[0]), "output"), os.NewFile(uintptr(p[1]), "stdout"), nil
}

// SocketPair returns a connected pair: ours for Go's poller, theirs blocking, to
// be inherited. For drivers: see [Sandbox.Agent].
func SocketPair() (ours net.Conn, theirs *os.File, err error) {
	f, theirs, err := Sockets()
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() // FileConn has a duplicate
	if ours, err = net.FileConn(f); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Sockets returns a connected pair of which Go's poller does not hear.
func Sockets() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "agent"), os.NewFile(uintptr(fds[1]), "agent (inside)"), nil
}

// Tell writes a task's word to an agent's connection, a net.Conn or what Sockets has
// returned. That the agent has ended is no error: Done tells. For drivers: see [Start].
func Tell(agent io.Writer, word string) error {
	if word == "" {
		return nil
	}
	if agent == nil {
		return lambent.Errorf(lambent.Invalid, "sandbox.Assign", "a word for no agent")
	}
	if c, ok := agent.(net.Conn); ok {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // whoever has filled it up waits for nothing
		defer c.SetWriteDeadline(time.Time{})
	}
	_, err := io.WriteString(agent, word)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EAGAIN) {
		return lambent.Errorf(lambent.Internal, "sandbox.Assign", "the agent does not read")
	}
	return nil
}
