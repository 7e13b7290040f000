// Command probe does what probes.json says, and prints what came of it: a line of
// JSON for each. It is a static program that calls the kernel by itself.
package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

type probe struct {
	Name string
	Verb string
	Args []any
}

var keep []any // what stays open, and the memory that system calls are given

func main() {
	if len(os.Args) > 1 { // who am I?
		b, err := os.ReadFile("/proc/self/status")
		if err != nil {
			panic(err)
		}
		os.Stdout.Write(b)
		return
	}
	b, err := os.ReadFile("probes.json")
	if err != nil {
		panic(err)
	}
	var probes []probe
	if err := json.Unmarshal(b, &probes); err != nil {
		panic(err)
	}
	for _, p := range probes {
		result, err := p.do()
		var errno syscall.Errno
		var timeout net.Error
		switch {
		case errors.As(err, &errno):
			result = fmt.Sprintf("errno %d", int(errno))
		case errors.As(err, &timeout) && timeout.Timeout():
			result = fmt.Sprintf("errno %d", int(syscall.ETIMEDOUT))
		case err != nil:
			result = err.Error()
		}
		line, _ := json.Marshal(map[string]string{"name": p.Name, "result": result})
		fmt.Printf("%s\n", line)
	}
}

func (p probe) text(i int) string { return p.Args[i].(string) }

func (p probe) number(i int) int {
	n, err := strconv.Atoi(p.text(i))
	if err != nil {
		panic(err)
	}
	return n
}

func (p probe) do() (string, error) {
	switch p.Verb {
	case "read":
		f, err := os.Open(p.text(0))
		if err != nil {
			return "", err
		}
		defer f.Close()
		b := make([]byte, 1<<16)
		n, err := syscall.Read(int(f.Fd()), b)
		return string(b[:max(0, n)]), err
	case "list":
		entries, err := os.ReadDir(p.text(0))
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		slices.Sort(names)
		return strings.Join(names, " "), err
	case "links":
		entries, err := os.ReadDir(p.text(0))
		var targets []string
		for _, e := range entries {
			target, _ := os.Readlink(p.text(0) + "/" + e.Name()) // it may be closed since
			targets = append(targets, target)
		}
		return strings.Join(targets, "\n"), err
	case "write":
		return put(p.text(0), os.O_WRONLY, p.text(1))
	case "create":
		return put(p.text(0), os.O_WRONLY|os.O_CREATE|os.O_EXCL, "")
	case "link":
		return "ok", os.Link(p.text(0), p.text(1))
	case "symlink":
		return "ok", os.Symlink(p.text(0), p.text(1))
	case "connect":
		return connect("tcp4", net.JoinHostPort(p.text(0), p.text(1)))
	case "connect6":
		return p.connect6()
	case "abstract":
		return connect("unix", "@"+p.text(0))
	case "listen", "listen abstract":
		network, address := "tcp4", p.text(0)
		if p.Verb != "listen" {
			network, address = "unix", "@"+p.text(0)
		}
		l, err := net.Listen(network, address)
		keep = append(keep, l)
		return "ok", err
	case "addresses":
		list, err := net.InterfaceAddrs()
		return fmt.Sprint(list), err
	case "kill":
		return "ok", syscall.Kill(p.number(0), syscall.Signal(p.number(1)))
	case "setuid":
		return "ok", syscall.Setuid(p.number(0))
	case "setgid":
		return "ok", syscall.Setgid(p.number(0))
	case "nice":
		return "ok", syscall.Setpriority(syscall.PRIO_PROCESS, 0, p.number(0))
	case "env":
		var names []string
		for _, e := range os.Environ() {
			name, _, _ := strings.Cut(e, "=")
			names = append(names, name)
		}
		slices.Sort(names)
		return strings.Join(names, " "), nil
	case "run":
		var argv []string
		for i := range p.Args {
			argv = append(argv, p.text(i))
		}
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		if e := (*exec.ExitError)(nil); errors.As(err, &e) {
			return fmt.Sprintf("%d %s", e.ExitCode(), strings.TrimSpace(string(out))), nil
		}
		return "0 " + strings.TrimSpace(string(out)), err
	case "call", "clone":
		return p.call()
	case "forks":
		return forks()
	case "descriptors":
		return repeat(func() error { _, err := syscall.Dup(0); return err })
	case "watchers":
		return repeat(func() error { _, err := syscall.InotifyInit(); return err })
	case "requests": // asynchronous ones, that may be under way
		return repeat(func() error {
			var context uintptr
			_, _, errno := syscall.RawSyscall(syscall.SYS_IO_SETUP, 4096, uintptr(unsafe.Pointer(&context)), 0)
			if errno != 0 {
				return errno
			}
			return nil
		})
	case "fill":
		return fill(p.text(0))
	case "files":
		n := 0
		return repeat(func() error {
			n++
			fd, err := syscall.Open(fmt.Sprintf("%s/%d", p.text(0), n), syscall.O_CREAT|syscall.O_WRONLY, 0o600)
			if err == nil {
				err = syscall.Close(fd)
			}
			return err
		})
	case "map":
		b, err := syscall.Mmap(-1, 0, p.number(0), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		return "ok", err
	case "hold":
		time.Sleep(time.Hour)
	}
	return "", fmt.Errorf("no verb %q", p.Verb)
}

func put(path string, flags int, content string) (string, error) {
	fd, err := syscall.Open(path, flags, 0o666)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	_, err = syscall.Write(fd, []byte(content))
	return "ok", err
}

func connect(network, address string) (string, error) {
	c, err := net.DialTimeout(network, address, 3*time.Second)
	if err == nil {
		err = c.Close()
	}
	return "ok", err
}

// connect6 connects by IPv6, also to an address of IPv4, for which package net would not
// use it.
func (p probe) connect6() (string, error) {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &syscall.Timeval{Sec: 3}); err != nil {
		return "", err
	}
	return "ok", syscall.Connect(fd, &syscall.SockaddrInet6{Port: p.number(1), Addr: [16]byte(net.ParseIP(p.text(0)).To16())})
}

func (p probe) call() (string, error) {
	var a [7]uintptr
	for i, arg := range p.Args {
		switch arg := arg.(type) {
		case float64:
			a[i] = uintptr(int64(arg))
		case map[string]any:
			b := make([]byte, 4096)
			if s, ok := arg["hex"].(string); ok {
				raw, err := hex.DecodeString(s)
				if err != nil {
					return "", err
				}
				copy(b, raw)
			} else {
				copy(b, arg["text"].(string))
			}
			keep = append(keep, b)
			a[i] = uintptr(unsafe.Pointer(&b[0]))
		}
	}
	r, _, errno := syscall.RawSyscall6(a[0], a[1], a[2], a[3], a[4], a[5], a[6])
	if p.Verb == "clone" && errno == 0 {
		if r == 0 {
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
		_, err := syscall.Wait4(int(r), nil, 0, nil)
		return "ok", err
	}
	if errno != 0 {
		return "", errno
	}
	return "ok", nil
}

// repeat says how often something succeeds, and what comes then.
func repeat(f func() error) (string, error) {
	for n := 0; ; n++ {
		if err := f(); err != nil {
			if errno := syscall.Errno(0); errors.As(err, &errno) {
				return fmt.Sprintf("%d, then errno %d", n, int(errno)), nil
			}
			return "", err
		}
	}
}

// forks makes children that stay until none can be made.
func forks() (string, error) {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		return "", err
	}
	var pids []int
	s, err := repeat(func() error {
		pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		if pid == 0 {
			var b [1]byte
			syscall.RawSyscall(syscall.SYS_CLOSE, uintptr(fds[1]), 0, 0)
			syscall.RawSyscall(syscall.SYS_READ, uintptr(fds[0]), uintptr(unsafe.Pointer(&b)), 1)
			syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
		}
		pids = append(pids, int(pid))
		return nil
	})
	syscall.Close(fds[1])
	syscall.Close(fds[0])
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	return s, err
}

// fill writes a file until nothing more is taken, and says how many MB that were.
func fill(path string) (string, error) {
	fd, err := syscall.Open(path, syscall.O_CREAT|syscall.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	defer syscall.Close(fd)
	block := make([]byte, 1<<20)
	return repeat(func() error {
		_, err := syscall.Write(fd, block)
		return err
	})
}
