package server

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A write to who does not read ends, whatever net/http has said of deadlines before:
// it takes them back after each request, and after a handshake.
func TestStallDeadlineStays(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := stallListener{tcp, 200 * time.Millisecond}
	defer l.Close()
	for name, take := range map[string]func(net.Conn) error{
		"of writes": func(c net.Conn) error { return c.SetWriteDeadline(time.Time{}) },
		"of both":   func(c net.Conn) error { return c.SetDeadline(time.Time{}) },
	} {
		t.Run(name, func(t *testing.T) { stalls(t, l, take) })
	}
}

func stalls(t *testing.T, l net.Listener, take func(net.Conn) error) {
	t.Helper()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	gaveUp := time.AfterFunc(10*time.Second, func() { c.Close() })
	defer gaveUp.Stop()
	if _, err := c.Write([]byte("the first answer")); err != nil {
		t.Fatal(err)
	}
	if err := take(c); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
