package cgroup

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"lambent"
)

// CPU returns the processor time used so far in us, of all that ever ran in the
// group. While something runs it may be some ms behind (version 1: one tick).
func (m *Meter) CPU() (us int64, err error) {
	if m.version == 2 {
		return number(m.cpu, "usage_usec ")
	}
	ns, err := number(m.cpu, "")
	return ns / 1000, err
}

// PeakMemory returns the most memory that the group had in use at once, in bytes,
// with the pages of files that it read first. (In version 2 before Linux 5.19:
// what is in use now.)
//
// A group cannot be handed on with a fresh peak: Linux 6.1 refuses to reset
// memory.peak, 6.12 does it for one descriptor, and what the predecessor left in
// the page cache would count in each of them.
func (m *Meter) PeakMemory() (int64, error) { return number(m.peak, "") }

// OOMKills returns how many processes the kernel has killed for the memory limit.
// In version 1 it kills one at a time, and the others run on; in version 2 all.
func (m *Meter) OOMKills() (int64, error) { return number(m.oom, "oom_kill ") }

// number reads the number that follows a key, which is in the file once.
func number(f *os.File, key string) (int64, error) {
	const op = "cgroup.read"
	if f == nil {
		return 0, lambent.Errorf(lambent.Internal, op, "the control group is removed")
	}
	var buf [512]byte                            // the first lines of cpu.stat are enough
	n, err := unix.Pread(int(f.Fd()), buf[:], 0) // os.File would read on to the end of the file
	if err != nil {
		return 0, lambent.Errorf(lambent.Internal, op, "cannot read %s: %w", f.Name(), err)
	}
	_, text, _ := bytes.Cut(buf[:n], []byte(key))
	text, _, _ = bytes.Cut(text, []byte("\n"))
	number, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, lambent.Errorf(lambent.Internal, op, "cannot read %s: no number after %q", f.Name(), key)
	}
	return number, nil
}
