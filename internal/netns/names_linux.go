package netns

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// names are the sockets inside at which functions ask for names. Nothing reads
// from them here: whoever answers is handed them by Names, and may be a process
// that has no other way in.
type names struct {
	datagrams *net.UDPConn
	streams   *door
}

// openNames must be called in the namespace.
func openNames() (*names, error) {
	streams, err := openDoor(53)
	if err != nil {
		return nil, err
	}
	s := &names{streams: streams}
	var c net.ListenConfig
	udp, err := c.ListenPacket(context.Background(), "udp4", net.JoinHostPort(platform, "53"))
	if err == nil {
		err = streams.set(true)
	}
	if err == nil {
		s.datagrams = udp.(*net.UDPConn)
		err = s.datagrams.SetReadBuffer(64 << 10)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// reset drops what the last sandbox asked. Whoever had the sockets may have them
// still, and be hostile: it could fill one for as long as this empties it.
func (s *names) reset() error {
	raw, err := s.datagrams.SyscallConn()
	if err != nil {
		return err
	}
	full := true
	err = raw.Control(func(fd uintptr) {
		b := make([]byte, 1)
		for left := 4096; full && left > 0; left-- { // more than fit
			_, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			full = err != unix.EAGAIN // other errors are of datagrams too
		}
	})
	if err == nil && full {
		err = errors.New("queries without end")
	}
	return errors.Join(err, s.streams.reset(), s.streams.set(true))
}

func (s *names) close() {
	if s.datagrams != nil {
		s.datagrams.Close()
	}
	s.streams.close()
}

// Names returns the sockets inside at which functions ask for names, at
// 169.254.100.1:53: one that has datagrams, and one that listens. They are as old
// as the network, and it keeps them: whoever answers ends that before Reset.
func (n *Net) Names() (datagrams, streams syscall.Conn) {
	return n.names.datagrams, n.names.streams.socket
}
