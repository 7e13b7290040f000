//go:build amd64 || arm64

package namespace

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"lambent"
	"lambent/internal/netns"
)

// A slot is what of a sandbox is slow to make and can serve another: users, a
// network, a disk. Nothing of one sandbox is left in it for the next.
type slot struct {
	number int
	users  *os.File // the user namespace
	net    *netns.Net
	disk   *disk // nil: to be made
}

// slots are those of a server, made when they are first wanted.
type slots struct {
	lease   *lease
	init    *os.File
	dir     *os.File // for the files of disks
	threads *threads
	nets    *netns.Nets

	mu     sync.Mutex
	free   []*slot // LIFO
	made   int
	closed bool
}

// take returns a free slot, with a disk.
func (s *slots) take() (_ *slot, err error) {
	s.mu.Lock()
	var sl *slot
	switch n := len(s.free); {
	case s.closed:
		err = errClosed
	case n > 0:
		sl, s.free = s.free[n-1], s.free[:n-1]
	case s.made == maxSlots:
		err = lambent.Errorf(lambent.Throttled, "namespace.Park", "all %d sandboxes of this server are in use", maxSlots)
	default:
		sl = &slot{number: s.made}
		s.made++
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := s.complete(sl); err != nil {
		s.put(sl)
		return nil, err
	}
	return sl, nil
}

// complete makes what the slot lacks.
func (s *slots) complete(sl *slot) (err error) {
	if sl.users == nil {
		if sl.users, err = makeUsers(s.init, s.lease.firstUser(sl.number)); err != nil {
			return err
		}
	}
	if sl.net == nil {
		if sl.net, err = s.nets.Make(sl.number); err != nil {
			return err
		}
	}
	if sl.disk == nil {
		return s.threads.do(func(*thread) (err error) {
			sl.disk, err = makeDisk(s.dir, fmt.Sprintf("disk-%d", sl.number))
			return err
		})
	}
	return nil
}

// give takes a slot back, once every process that was in it has ended.
func (s *slots) give(sl *slot) error {
	var err error
	if sl.net != nil {
		if err = sl.net.Reset(); err != nil {
			if errors.Is(err, netns.ErrUsed) {
				err = nil
			}
			err = errors.Join(err, sl.net.Close())
			sl.net = nil
		}
	}
	if sl.disk != nil && !sl.disk.reusable() {
		err = errors.Join(err, s.removeDisk(sl))
	}
	s.put(sl)
	return err
}

// put makes a slot free.
func (s *slots) put(sl *slot) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.free = append(s.free, sl)
	}
	s.mu.Unlock()
	if closed {
		_ = s.remove(sl)
	}
}

func (s *slots) removeDisk(sl *slot) error {
	d := sl.disk
	sl.disk = nil
	return s.threads.do(func(*thread) error { d.remove(); return nil })
}

func (s *slots) remove(sl *slot) (err error) {
	if sl.disk != nil {
		err = s.removeDisk(sl)
	}
	if sl.net != nil {
		err = errors.Join(err, sl.net.Close())
	}
	if sl.users != nil {
		err = errors.Join(err, sl.users.Close())
	}
	return err
}

// close removes the free slots; those in use are removed when they are given back.
func (s *slots) close() error {
	s.mu.Lock()
	s.closed = true
	free := s.free
	s.free = nil
	s.mu.Unlock()
	var err error
	for _, sl := range free {
		err = errors.Join(err, s.remove(sl))
	}
	return err
}
