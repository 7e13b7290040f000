package process

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A statsReader holds what reading a process's use needs, so that a read is two
// system calls (5 us beside a Node process, which has eleven threads).
type statsReader struct {
	mu    sync.Mutex
	clock int32
	stat  *os.File
	last  int64 // us: the answer once the process is gone
}

func (s *statsReader) open(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = int32(^pid<<3 | 2) // the kernel's id of a process's CPU clock: clock_getcpuclockid(3)
	s.stat, _ = os.Open("/proc/" + strconv.Itoa(pid) + "/stat")
}

// read returns the CPU time of the first process to the nanosecond's us, plus
// that of the children it has waited for to the kernel's tick of 10 ms.
func (s *statsReader) read() (cpuUS, rssBytes int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stat == nil {
		return s.last, 0, nil
	}
	var ts unix.Timespec
	var buf [512]byte
	n, _ := unix.Pread(int(s.stat.Fd()), buf[:], 0) // the File's own ReadAt would look for more
	children, rss, ok := parseStat(buf[:max(0, n)])
	if unix.ClockGettime(s.clock, &ts) != nil || !ok {
		return s.last, 0, nil // it has ended
	}
	s.last = ts.Nano()/1000 + children
	return s.last, rss, nil
}

func (s *statsReader) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stat != nil {
		s.stat.Close()
		s.stat = nil
	}
}

// parseStat reads the fields cutime, cstime and rss of proc_pid_stat(5).
func parseStat(line []byte) (childrenUS, rssBytes int64, ok bool) {
	const state, cutime, cstime, rss = 3, 16, 17, 24
	i := bytes.LastIndexByte(line, ')') // the name before it may hold anything
	if i < 0 {
		return 0, 0, false
	}
	field := state
	for f := range bytes.FieldsSeq(line[i+1:]) {
		switch field {
		case cutime, cstime:
			childrenUS += number(f) * 10_000
		case rss:
			return childrenUS, number(f) * int64(os.Getpagesize()), true
		}
		field++
	}
	return 0, 0, false
}

// number parses decimal digits.
func number(b []byte) (n int64) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// treeRSS sums the resident memory of a process and its descendants, in bytes.
// Pages that they share count once for each: the limit errs to the safe side.
func treeRSS(pid int) int64 {
	dir := "/proc/" + strconv.Itoa(pid)
	line, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0
	}
	_, rss, _ := parseStat(line)
	children, err := os.ReadFile(dir + "/task/" + strconv.Itoa(pid) + "/children")
	if err != nil {
		return rss
	}
	for f := range bytes.FieldsSeq(children) {
		rss += treeRSS(int(number(f)))
	}
	return rss
}

// awaitEnd returns once the process has ended and before it is reaped, while its
// number is still its own.
func awaitEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == syscall.EINTR {
	}
}
