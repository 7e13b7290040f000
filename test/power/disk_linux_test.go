package power

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk is one with a volatile write cache, which QEMU reads and writes by the protocol
// NBD: what was written and not flushed may be on it after a cut, or not, each sector by
// itself, and a later write without an earlier one.
type disk struct {
	path string // of its socket

	mu    sync.Mutex // guards what follows
	lying bool       // it says that it has flushed, and has not
	held  *hold      // flushes wait for it; nil: for nothing
	media *os.File
	cache map[int64][][]byte // of a sector: what was written to it since, the oldest first
}

// sector is what is written as a whole. Not 512: ext4 takes its superblock for written so,
// which is twice that.
const sector = 4096

// newDisk makes one of an image.
func newDisk(t *testing.T, image string) *disk {
	t.Helper()
	media, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { media.Close() })
	d := &disk{path: filepath.Join(t.TempDir(), "nbd"), media: media, cache: map[int64][][]byte{}}
	l, err := net.Listen("unix", d.path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				if err := d.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
					t.Logf("disk: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return d
}

// drive is how QEMU gets to it.
func (d *disk) drive() string {
	return "format=raw,file.driver=nbd,file.server.type=unix,file.server.path=" + d.path
}

// cut loses what is in the cache, but for what happens to be on the disk: of each sector
// what was written last with the probability keep, or else what was written before that,
// and so on. It returns how many sectors were written to and not flushed.
func (d *disk) cut(r *rand.Rand, keep float64) (sectors int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for at, versions := range d.cache {
		for _, data := range slices.Backward(versions) {
			if keep > 0 && r.Float64() < keep {
				if _, err := d.media.WriteAt(data, at); err != nil {
					return 0, err
				}
				break
			}
		}
	}
	sectors = len(d.cache)
	clear(d.cache)
	if d.held != nil {
		close(d.held.ended)
		d.held = nil
	}
	return sectors, nil
}

func (d *disk) read(p []byte, at int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.media.ReadAt(p, at); err != nil {
		return err
	}
	for i := 0; i < len(p); i += sector {
		if versions := d.cache[at+int64(i)]; versions != nil {
			copy(p[i:], versions[len(versions)-1])
		}
	}
	return nil
}

func (d *disk) write(p []byte, at int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := 0; i < len(p); i += sector {
		s := at + int64(i)
		d.cache[s] = append(d.cache[s], p[i:i+sector:i+sector])
	}
}

// lie has the disk flush nothing any more.
func (d *disk) lie() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lying = true
}

// A hold is a moment at which there is something to be flushed.
type hold struct {
	asked func()        // called when a flush waits
	ended chan struct{} // closed once the power is cut
}

// hold has flushes wait for the next cut. The channel is closed when there is one.
func (d *disk) hold() (asked chan struct{}) {
	asked = make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = &hold{sync.OnceFunc(func() { close(asked) }), make(chan struct{})}
	return asked
}

// flush puts what is in the cache on the disk, or only what is at the sectors from begin
// to end.
func (d *disk) flush(begin, end int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.held; h != nil && len(d.cache) > 0 {
		d.mu.Unlock()
		h.asked()
		<-h.ended
		d.mu.Lock()
		return errors.New("the power is cut")
	}
	if d.lying {
		return nil
	}
	for at, versions := range d.cache {
		if at < begin || at >= end {
			continue
		}
		if _, err := d.media.WriteAt(versions[len(versions)-1], at); err != nil {
			return err
		}
		delete(d.cache, at)
	}
	return nil
}

// The protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md.
const (
	nbdMagic      = 0x4e42444d41474943
	nbdOption     = 0x49484156454f5054
	nbdReply      = 0x0003e889045565a9
	nbdRequest    = 0x25609513
	nbdSimple     = 0x67446698
	nbdFixed      = 1 | 2 // newstyle, and no zeroes
	nbdFlags      = 1 | 4 | 8
	nbdGo         = 7
	nbdAbort      = 2
	nbdAck        = 1
	nbdInfo       = 3
	nbdUnsup      = 1<<31 + 1
	nbdRead       = 0
	nbdWrite      = 1
	nbdDisconnect = 2
	nbdFlush      = 3
	nbdFUA        = 1
	nbdEIO        = 5
)

func (d *disk) serve(c io.ReadWriter) error {
	if err := d.negotiate(c); err != nil {
		return err
	}
	for {
		var q struct {
			Magic   uint32
			Flags   uint16
			Command uint16
			Cookie  uint64
			Offset  int64
			Length  uint32
		}
		if err := binary.Read(c, binary.BigEndian, &q); err != nil {
			return err
		}
		if q.Magic != nbdRequest {
			return fmt.Errorf("a request begins with %x", q.Magic)
		}
		var data []byte
		var failed error
		switch q.Command {
		case nbdRead:
			data = make([]byte, q.Length)
			failed = d.read(data, q.Offset)
		case nbdWrite:
			p := make([]byte, q.Length)
			if _, err := io.ReadFull(c, p); err != nil {
				return err
			}
			d.write(p, q.Offset)
			if q.Flags&nbdFUA != 0 {
				failed = d.flush(q.Offset, q.Offset+int64(q.Length))
			}
		case nbdFlush:
			failed = d.flush(0, 1<<62)
		case nbdDisconnect:
			return nil
		default:
			failed = fmt.Errorf("command %d", q.Command)
		}
		reply := struct {
			Magic, Error uint32
			Cookie       uint64
		}{nbdSimple, 0, q.Cookie}
		if failed != nil {
			reply.Error, data = nbdEIO, nil
		}
		out, err := binary.Append(nil, binary.BigEndian, reply)
		if err != nil {
			return err
		}
		if _, err := c.Write(append(out, data...)); err != nil {
			return err
		}
	}
}

// negotiate says how large the disk is.
func (d *disk) negotiate(c io.ReadWriter) error {
	if err := send(c, uint64(nbdMagic), uint64(nbdOption), uint16(nbdFixed)); err != nil {
		return err
	}
	var flags uint32
	if err := binary.Read(c, binary.BigEndian, &flags); err != nil {
		return err
	}
	info, err := d.media.Stat()
	if err != nil {
		return err
	}
	for {
		var q struct {
			Magic  uint64
			Option uint32
			Length uint32
		}
		if err := binary.Read(c, binary.BigEndian, &q); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, c, int64(q.Length)); err != nil { // whatever the disk is called
			return err
		}
		switch q.Option {
		case nbdGo:
			if err := send(c, uint64(nbdReply), q.Option, uint32(nbdInfo), uint32(12), uint16(0), info.Size(), uint16(nbdFlags)); err != nil {
				return err
			}
			return send(c, uint64(nbdReply), q.Option, uint32(nbdAck), uint32(0))
		case nbdAbort:
			return io.EOF
		default:
			if err := send(c, uint64(nbdReply), q.Option, uint32(nbdUnsup), uint32(0)); err != nil {
				return err
			}
		}
	}
}

func send(w io.Writer, fields ...any) error {
	var out []byte
	for _, f := range fields {
		var err error
		if out, err = binary.Append(out, binary.BigEndian, f); err != nil {
			return err
		}
	}
	_, err := w.Write(out)
	return err
}
