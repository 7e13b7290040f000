// Package bench measures the whole program from outside: the built server as a
// process, called over loopback by as small a client as will do. Its benchmarks
// report what PERFORMANCE goals are about, latency beside CPU time, and next to
// each figure the floor: the same handler, bare, in the same run. Machines drift
// by a factor of two; ratios and differences inside one run hold.
//
//	go test -run '^$' -bench . -timeout 30m ./bench
package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Caller sends one request again and again over one connection, and reads its
// answers. It costs a few microseconds, where net/http's client costs forty.
type Caller struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	body    []byte
}

// NewCaller connects to addr and will POST payload to path.
func NewCaller(addr, path, payload string) (*Caller, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Caller{
		conn: conn, in: bufio.NewReaderSize(conn, 16<<10), body: make([]byte, 16<<10),
		request: fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", path, len(payload), payload),
	}, nil
}

// Close ends the connection.
func (c *Caller) Close() error { return c.conn.Close() }

// Call makes one call and returns the answer's body, which is valid until the
// next one. An answer that is not 200 is an error.
func (c *Caller) Call() ([]byte, error) {
	if _, err := c.conn.Write(c.request); err != nil {
		return nil, err
	}
	status, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	ok := bytes.HasPrefix(status, []byte("HTTP/1.1 200"))
	answer := string(bytes.TrimSpace(status))
	length := -1
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length > len(c.body) {
				return nil, fmt.Errorf("Content-Length %s", value)
			}
		}
	}
	if length < 0 {
		return nil, fmt.Errorf("%s without a length", answer)
	}
	if _, err := io.ReadFull(c.in, c.body[:length]); err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %s", answer, c.body[:length])
	}
	return c.body[:length], nil
}

// Latencies are those of calls, in any order.
type Latencies []time.Duration

// Percentile returns the p-th percentile, 0 to 100.
func (l Latencies) Percentile(p float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(l))
	return s[min(len(s)-1, int(float64(len(s))*p/100))]
}

// CPU returns what processes and their threads have computed, from the scheduler's
// own nanoseconds: the ticks of /proc/PID/stat are 10 ms.
func CPU(pids ...int) time.Duration {
	var sum int64
	var files []string
	for _, pid := range pids {
		more, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		files = append(files, more...)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread ended
		}
		ns, _, _ := strings.Cut(string(b), " ")
		n, _ := strconv.ParseInt(ns, 10, 64)
		sum += n
	}
	return time.Duration(sum)
}

// Children returns the processes that a process has started, and theirs.
func Children(pid int) (all []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f) // the thread may have ended
		for _, field := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(append(all, child), Children(child)...)
			}
		}
	}
	return all
}

// Server returns a server's process, that of the jail which makes its sandboxes, where it
// is divided, and those that keep its buckets.
func Server(pid int) []int {
	all := []int{pid}
	for _, child := range Children(pid) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child)) // it may have ended
		if argv := strings.Split(string(b), "\x00"); len(argv) > 1 && (argv[1] == "jail" || argv[1] == "gateway") {
			all = append(all, child)
		}
	}
	return all
}

// PSS returns the memory of a process in bytes, where each page counts as the part
// of it that falls on each process that has it.
func PSS(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid)) // it may have ended
	_, after, _ := strings.Cut(string(b), "\nPss:")
	var kB int64
	_, _ = fmt.Sscan(after, &kB)
	return kB << 10
}

// RSS returns the resident memory of a process, in bytes.
func RSS(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// Stolen returns the time for which the hypervisor has run something else while one
// of this machine's processors had work, summed up since it was booted. Where it
// grows during a measurement, the slowest of it are the neighbours'.
func Stolen() time.Duration {
	b, _ := os.ReadFile("/proc/stat") // where there is none, none is known of
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return 0
	}
	ticks, _ := strconv.ParseInt(fields[8], 10, 64)
	return time.Duration(ticks) * (time.Second / 100)
}
