package sandboxtest

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"lambent/sandbox"
)

// A probe is one thing that is tried: a verb of the programs in testdata with its
// arguments, and what must come of it. A failure is the name of its errno.
type probe struct {
	name string
	verb string
	args []any
	want string                    // exactly; or
	ok   func(result string) error // what is right otherwise
}

func (p probe) MarshalJSON() ([]byte, error) {
	args := p.args
	if args == nil {
		args = []any{}
	}
	return json.Marshal(map[string]any{"name": p.name, "verb": p.verb, "args": args})
}

// in reports whether a program knows the verb.
func (p probe) in(file string) bool {
	switch p.verb {
	case "call", "clone":
		return file != "probe.js"
	case "machine":
		return file == "probe.py"
	case "map", "forks", "descriptors", "watchers", "requests", "fill", "files", "listen", "listen abstract", "addresses", "hold":
		return file == "probe"
	}
	return true
}

var numbered = regexp.MustCompile(`errno (\d+)`)

func (p probe) check(t *testing.T, result string) {
	t.Helper()
	result = numbered.ReplaceAllStringFunc(result, func(s string) string {
		n, _ := strconv.Atoi(strings.TrimPrefix(s, "errno "))
		return unix.ErrnoName(syscall.Errno(n))
	})
	if p.ok != nil {
		if err := p.ok(result); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	} else if result != p.want {
		t.Errorf("%s: got %.200q, want %q", p.name, result, p.want)
	}
}

// text and raw are memory that a system call is given; zeros follow.
func text(s string) any   { return map[string]string{"text": s} }
func raw(b ...byte) any   { return map[string]string{"hex": fmt.Sprintf("%x", b)} }
func number(n uint64) any { return int64(n) }

var nowhere = raw() // a page of zeros

// do is a probe by a function that every language has.
func do(want, verb string, args ...string) probe {
	p := probe{name: strings.Join(append([]string{verb}, args...), " "), verb: verb, want: want}
	for _, a := range args {
		p.args = append(p.args, a)
	}
	return p
}

// call is a probe by a system call.
func call(want, name string, number uint64, args ...any) probe {
	return probe{name: name, verb: "call", want: want, args: append([]any{number}, args...)}
}

func (p probe) named(name string) probe {
	p.name = name
	return p
}

func (p probe) that(ok func(string) error) probe {
	p.ok = ok
	return p
}

// probes is everything that is tried while another sandbox lives.
func (e *escape) probes() []probe {
	list := append(files(e.secret), processesOf()...)
	list = append(list, kernel()...)
	list = append(list, sockets()...)
	list = append(list, privileges()...)
	list = append(list, e.network()...)
	if runtime.GOARCH == "amd64" {
		list = append(list, amd64()...)
	}
	return list
}

// files are the host's, and what the sandbox has of its own.
func files(secret string) []probe {
	list := []probe{
		do("ENOENT", "read", secret),
		do("ENOENT", "read", "/proc/self/root"+secret),
		do("ENOENT", "read", "/var/task/../../.."+secret),
		do("ENOENT", "read", "/etc/shadow"),
		do("ENOENT", "read", "/etc/ssh/sshd_config"),
		do("ENOENT", "list", "/root"),
		do("ENOENT", "list", "/home"),
		do("ENOENT", "list", "/run"),
		do("ENOENT", "list", "/var/lib"),
		do("ENOENT", "list", "/sys"),
		do("ENOENT", "list", "/sys/fs/cgroup"),
		do("ENOENT", "write", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "-1"),
		do("full null random stderr stdin stdout urandom zero", "list", "/dev").that(devices),
		do("ENOENT", "read", "/dev/mem"),
		do("ENOENT", "read", "/dev/kmsg"),
		do("ENOENT", "read", "/dev/loop0"),
		do("ENOENT", "read", "/dev/tty"),
		do("ENOENT", "read", "/dev/net/tun"),
		do("ENOENT", "read", "/dev/kvm"),
		do("EROFS", "create", "/new"),
		do("EROFS", "create", "/etc/new"),
		do("EROFS", "create", "/usr/new"),
		do("EROFS", "create", "/dev/new"),
		do("EROFS", "create", "/var/task/new"),
		do("EROFS", "create", "/opt/new"),
		do("EROFS", "create", "/var/new"),
		do("EACCES", "write", "/etc/passwd", "root::0:0::/:/bin/sh\n").that(oneOf("EACCES", "EROFS")),
		do("EACCES", "write", "/usr/bin/env", "x").that(oneOf("EACCES", "EROFS")),
		do("", "write", "/proc/self/exe", "x").that(oneOf("EACCES", "EROFS", "ETXTBSY")),
		do("ok", "symlink", secret, "/tmp/link"),
		do("ENOENT", "read", "/tmp/link"),
		do("EXDEV", "link", "/etc/passwd", "/tmp/passwd"),
		do("EXDEV", "link", "/var/task/probes.json", "/tmp/probes"),
		do("ok", "create", "/tmp/own"),
		do("", "read", "/proc/self/mounts").that(mounts),
		do("", "read", "/etc/passwd").that(lacks("/bin/bash")),
		do("nameserver 169.254.100.1\noptions timeout:5\n", "read", "/etc/resolv.conf"),
	}
	at := func(args ...any) []any { return append([]any{number(^uint64(99))}, args...) } // AT_FDCWD
	return append(list,
		call("EPERM", "mknodat of a block device", unix.SYS_MKNODAT, at(text("/tmp/block"), unix.S_IFBLK|0o666, 7<<8)...),
		call("EPERM", "mknodat of a character device", unix.SYS_MKNODAT, at(text("/tmp/mem"), unix.S_IFCHR|0o666, 1<<8|1)...),
		call("EPERM", "name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, at(text("/"), raw(128), nowhere, 0)...),
		call("EPERM", "open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, at(raw(8, 0, 0, 0, 1, 0, 0, 0, 2), 0)...),
		call("EPERM", "mount of a new file system", unix.SYS_MOUNT, text("none"), text("/tmp"), text("tmpfs"), 0, 0),
		call("EPERM", "mount that makes / writable", unix.SYS_MOUNT, text(""), text("/"), text(""), unix.MS_REMOUNT|unix.MS_BIND, 0),
		call("EPERM", "mount of /proc anew", unix.SYS_MOUNT, text("proc"), text("/tmp"), text("proc"), 0, 0),
		call("EPERM", "umount of /proc", unix.SYS_UMOUNT2, text("/proc"), unix.MNT_DETACH),
		call("EPERM", "pivot_root", unix.SYS_PIVOT_ROOT, text("/tmp"), text("/tmp")),
		call("EPERM", "chroot", unix.SYS_CHROOT, text("/tmp")),
		call("EPERM", "fsopen", unix.SYS_FSOPEN, text("tmpfs"), 0),
		call("EPERM", "fspick", unix.SYS_FSPICK, at(text("/"), 0)...),
		call("EPERM", "fsconfig", unix.SYS_FSCONFIG, 0, 0, 0, 0, 0),
		call("EPERM", "fsmount", unix.SYS_FSMOUNT, 0, 0, 0),
		call("EPERM", "open_tree", unix.SYS_OPEN_TREE, at(text("/"), unix.OPEN_TREE_CLONE)...),
		call("EPERM", "move_mount", unix.SYS_MOVE_MOUNT, 0, text(""), number(^uint64(99)), text("/tmp"), unix.MOVE_MOUNT_F_EMPTY_PATH),
		call("EPERM", "mount_setattr", unix.SYS_MOUNT_SETATTR, at(text("/"), 0, nowhere, 32)...),
		call("EPERM", "swapon", unix.SYS_SWAPON, text("/tmp/own"), 0),
		call("EPERM", "acct", unix.SYS_ACCT, text("/tmp/own")),
		call("EPERM", "quotactl", unix.SYS_QUOTACTL, 0, 0, 0, 0),
		call("EPERM", "fanotify_init", unix.SYS_FANOTIFY_INIT, 0, 0),
	)
}

// processesOf are those of the host, of other sandboxes, and process 1.
func processesOf() []probe {
	outside := fmt.Sprint(os.Getpid())
	list := []probe{
		do("", "list", "/proc").that(processes),
		do("ENOENT", "read", "/proc/"+outside+"/environ"),
		do("ENOENT", "list", "/proc/"+outside+"/fd"),
		do("EACCES", "read", "/proc/1/environ"),
		do("EACCES", "list", "/proc/1/fd"),
		do("EACCES", "list", "/proc/1/root"),
		do("EACCES", "read", "/proc/1/exe"),
		do("EACCES", "read", "/proc/1/maps"),
		do("EACCES", "read", "/proc/1/mem"),
		do("EACCES", "write", "/proc/1/oom_score_adj", "1000"),
		do("ESRCH", "kill", outside, "0"),
		do("ESRCH", "kill", outside, "9"),
		do("ESRCH", "kill", "-1", "9").named("kill everyone: nobody is there"),
		do("ok", "kill", "1", "9").named("kill process 1: it does not hear"),
		do("MARK PATH", "env").that(environment),
		do("", "links", "/proc/self/fd").that(lacks("/secret", "lambent", "memfd:", "mnt:", "net:", "user:", "cgroup")),
		do("EACCES", "write", "/proc/self/oom_score_adj", "-1000"),
		do("EPERM", "write", "/proc/self/uid_map", "0 0 1\n"),
		do("", "read", "/proc/self/cgroup").that(lacks("docker", "user.slice")),
	}
	iovec := raw(0, 0, 0, 0, 0, 0, 0, 0, 8)
	return append(list,
		call("EPERM", "ptrace(ATTACH) of process 1", unix.SYS_PTRACE, unix.PTRACE_ATTACH, 1, 0, 0),
		call("EPERM", "ptrace(SEIZE) of process 1", unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1, 0, 0),
		call("EPERM", "ptrace(TRACEME)", unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0),
		call("EPERM", "process_vm_readv", unix.SYS_PROCESS_VM_READV, 1, iovec, 1, iovec, 1, 0),
		call("EPERM", "process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, 1, iovec, 1, iovec, 1, 0),
		call("EPERM", "kcmp", unix.SYS_KCMP, 1, 2, 0, 0, 0),
		call("EPERM", "pidfd_getfd", unix.SYS_PIDFD_GETFD, 0, 0, 0),
		call("EPERM", "process_madvise", unix.SYS_PROCESS_MADVISE, 0, iovec, 1, 0, 0),
		call("EPERM", "migrate_pages", unix.SYS_MIGRATE_PAGES, 1, 0, 0, 0),
		call("EPERM", "move_pages", unix.SYS_MOVE_PAGES, 1, 0, 0, 0, 0, 0),
	)
}

// kernel is what the kernel has, of all that use it, and its ways to be changed.
func kernel() []probe {
	list := []probe{
		do("EACCES", "write", "/proc/sys/kernel/core_pattern", "|/tmp/x"),
		do("EACCES", "write", "/proc/sys/kernel/hostname", "x"),
		do("EACCES", "write", "/proc/sys/vm/drop_caches", "3"),
		do("EACCES", "write", "/proc/sys/kernel/sysrq", "1").that(oneOf("EACCES", "ENOENT")),
		do("EACCES", "write", "/proc/sysrq-trigger", "c").that(oneOf("EACCES", "ENOENT", "EIO")),
		do("EACCES", "read", "/proc/kcore").that(oneOf("EACCES", "ENOENT", "EPERM")),
		do("EACCES", "read", "/proc/kmsg").that(oneOf("EACCES", "EPERM", "ENOENT")),
		do("", "read", "/proc/cmdline"),
		do("", "read", "/proc/modules").that(oneOf("", "ENOENT")),
		do("", "read", "/proc/keys").that(oneOf("", "ENOENT")),
		do("", "read", "/proc/partitions"),
		do("", "read", "/proc/self/status").that(status),
		do("", "read", "/proc/self/limits").that(limits),
		do("0 lambent", "run", "/bin/uname", "-n"),
	}
	for _, c := range []struct {
		name string
		nr   uint64
	}{
		{"bpf", unix.SYS_BPF}, {"perf_event_open", unix.SYS_PERF_EVENT_OPEN}, {"io_uring_setup", unix.SYS_IO_URING_SETUP},
		{"io_uring_enter", unix.SYS_IO_URING_ENTER}, {"io_uring_register", unix.SYS_IO_URING_REGISTER},
		{"userfaultfd", unix.SYS_USERFAULTFD}, {"kexec_load", unix.SYS_KEXEC_LOAD}, {"init_module", unix.SYS_INIT_MODULE},
		{"finit_module", unix.SYS_FINIT_MODULE}, {"delete_module", unix.SYS_DELETE_MODULE},
		{"syslog", unix.SYS_SYSLOG}, {"reboot", unix.SYS_REBOOT}, {"settimeofday", unix.SYS_SETTIMEOFDAY},
		{"clock_settime", unix.SYS_CLOCK_SETTIME}, {"clock_adjtime", unix.SYS_CLOCK_ADJTIME}, {"adjtimex", unix.SYS_ADJTIMEX},
		{"sethostname", unix.SYS_SETHOSTNAME}, {"setdomainname", unix.SYS_SETDOMAINNAME}, {"vhangup", unix.SYS_VHANGUP},
		{"keyctl", unix.SYS_KEYCTL}, {"add_key", unix.SYS_ADD_KEY}, {"request_key", unix.SYS_REQUEST_KEY},
		{"unused number", 700},
	} {
		list = append(list, call("EPERM", c.name, c.nr, nowhere, nowhere, nowhere, nowhere, nowhere))
	}
	return append(list,
		call("EPERM", "personality without random addresses", unix.SYS_PERSONALITY, 0x0040000),
		call("EPERM", "personality, by its high bits", unix.SYS_PERSONALITY, 1<<32|0x0040000),
		call("EPERM", "a filter of its own", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, nowhere),
		call("EPERM", "the same, the old way", unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, nowhere, 0, 0),
		call("EPERM", "the same, by the high bits", unix.SYS_PRCTL, 1<<32|unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, nowhere, 0, 0),
		call("ok", "prctl otherwise", unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0, 0, 0),
		call("EPERM", "a slice of the processor as long as it likes", unix.SYS_SCHED_SETATTR, 0, nowhere, 0),
		call("EPERM", "the host's disk written out", unix.SYS_SYNCFS, 0),
		call("ENOENT", "shared memory of the host's", unix.SYS_SHMGET, 0x4c414d42, 0, 0),
		call("ENOENT", "shared memory of the neighbour's", unix.SYS_SHMGET, neighboursKey, 0, 0),
		call("EPERM", "a core dump of any size", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, raw(255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255), 0),
		call("EPERM", "a core dump through the host's handler", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, raw(0), 0),
		call("EPERM", "the same, by the high bits", unix.SYS_PRLIMIT64, 0, 1<<32|unix.RLIMIT_CORE, raw(0), 0),
		call("ok", "fewer descriptors", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, raw(0, 4, 0, 0, 0, 0, 0, 0, 0, 4), 0),
		call("EPERM", "more descriptors", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, raw(0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1), 0),
	)
}

// sockets are the kinds that are not for functions.
func sockets() []probe {
	socket := func(want, name string, family, kind, protocol any) probe {
		return call(want, "socket: "+name, unix.SYS_SOCKET, family, kind, protocol)
	}
	return []probe{
		socket("ok", "TCP", unix.AF_INET, unix.SOCK_STREAM, 0),
		socket("ok", "UDP", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_UDP),
		socket("ok", "the list of interfaces", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE),
		socket("EPERM", "raw", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW),
		socket("EPERM", "raw ICMP", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP),
		socket("EPERM", "raw TCP", unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP),
		socket("EPERM", "ping", unix.AF_INET, unix.SOCK_DGRAM, unix.IPPROTO_ICMP),
		socket("EPERM", "raw, IPv6", unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6),
		socket("EPERM", "SCTP, a module", unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP),
		socket("EPERM", "MPTCP", unix.AF_INET, unix.SOCK_STREAM, 262),
		socket("EPERM", "raw, by the protocol's high bits", unix.AF_INET, unix.SOCK_RAW, 1<<32|unix.IPPROTO_ICMP),
		socket("EPERM", "packets", unix.AF_PACKET, unix.SOCK_RAW, 0x0300),
		socket("EPERM", "packets, by the family's high bits", 1<<32|unix.AF_PACKET, unix.SOCK_RAW, 0x0300),
		socket("EPERM", "netfilter", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER),
		socket("EPERM", "audit", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT),
		socket("EPERM", "events of the kernel", unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT),
		socket("EPERM", "the kernel's ciphers", unix.AF_ALG, unix.SOCK_SEQPACKET, 0),
		socket("EPERM", "machines", unix.AF_VSOCK, unix.SOCK_STREAM, 0),
		socket("EPERM", "keys", unix.AF_KEY, unix.SOCK_RAW, 2),
		socket("EPERM", "XDP", unix.AF_XDP, unix.SOCK_RAW, 0),
		socket("EPERM", "bluetooth", unix.AF_BLUETOOTH, unix.SOCK_RAW, 1),
		socket("EPERM", "TIPC", unix.AF_TIPC, unix.SOCK_RAW, 0),
		// A new address, by the one kind of netlink that there is.
		do("1 ", "run", "/bin/sh", "-c", "ip link set lo down 2>/dev/null; echo 1 > /proc/sys/net/ipv4/ip_forward").that(func(s string) error {
			if strings.HasPrefix(s, "0") {
				return fmt.Errorf("ip_forward is written")
			}
			return nil
		}),
	}
}

// privileges are the ways to get some.
func privileges() []probe {
	list := []probe{
		do("EPERM", "setuid", "0"),
		do("EPERM", "setgid", "0"),
		do("EACCES", "nice", "-20"),
		do("", "run", "/var/task/"+setuid, "status").that(status),
		call("EPERM", "setgroups", unix.SYS_SETGROUPS, 1, raw(0, 0, 0, 0)),
		call("EPERM", "setresuid", unix.SYS_SETRESUID, 0, 0, 0),
		call("EPERM", "setns", unix.SYS_SETNS, 0, 0),
		call("EPERM", "capset", unix.SYS_CAPSET, raw(0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0), raw(255, 255, 255, 255, 255, 255, 255, 255)),
		call("EPERM", "SCHED_FIFO", unix.SYS_SCHED_SETSCHEDULER, 0, 1, raw(1)),
		call("ENOSYS", "clone3: C libraries take clone then", unix.SYS_CLONE3, nowhere, 88),
		call("ENOTTY", "ioctl(TIOCSTI): there is no terminal", unix.SYS_IOCTL, 0, unix.TIOCSTI, text("x")),
	}
	for name, flag := range map[string]int{
		"user": unix.CLONE_NEWUSER, "net": unix.CLONE_NEWNET, "mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID,
		"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP, "time": unix.CLONE_NEWTIME,
	} {
		list = append(list, call("EPERM", "unshare: "+name, unix.SYS_UNSHARE, flag))
		if flag != unix.CLONE_NEWTIME { // which is no flag of clone: its bit is in the signal's
			p := call("EPERM", "clone: "+name, unix.SYS_CLONE, flag|int(unix.SIGCHLD), 0, 0, 0, 0)
			p.verb = "clone"
			high := call("EPERM", "clone, with high bits: "+name, unix.SYS_CLONE, 1<<32|flag|int(unix.SIGCHLD), 0, 0, 0, 0)
			high.verb = "clone"
			list = append(list, p, high)
		}
	}
	return list
}

// network is what nobody may reach by default.
func (e *escape) network() []probe {
	list := []probe{
		do("ECONNREFUSED", "connect", "127.0.0.1", e.port),
		do("ECONNREFUSED", "abstract", e.abstract),
		do("ECONNREFUSED", "abstract", neighboursSocket),
		do("", "connect", e.neighbour, "7777").that(oneOf(unreached...)),
		do("", "connect", "169.254.100.1", e.port).that(oneOf(unreached...)),
		do("", "connect", "169.254.100.2", e.port).named("connect to the way out").that(oneOf(unreached...)),
	}
	for _, port := range []int{22, 52, 54, 80, 443, sandbox.RuntimeAPI - 1, sandbox.RuntimeAPI, sandbox.Endpoint, sandbox.Endpoint + 1} { // nobody listens there
		list = append(list, do("ECONNREFUSED", "connect", "169.254.100.1", strconv.Itoa(port)))
	}
	for _, a := range e.addresses {
		list = append(list, do("", "connect", a, e.port).that(oneOf(unreached...)), do("", "connect6", "::ffff:"+a, e.port).that(oneOf(unreached...)))
	}
	for _, a := range append([]string{"::1", "2001:db8::1"}, e.addresses6...) {
		list = append(list, do("", "connect6", a, e.port).that(oneOf(append(unreached, "EADDRNOTAVAIL", "EAFNOSUPPORT")...)))
	}
	return list
}

// unreached is what a fence may say.
var unreached = []string{"ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EAGAIN", "EINPROGRESS"}

// reached is the same, where it is allowed.
func (e *escape) reached() []probe {
	var list []probe
	for _, a := range e.addresses {
		list = append(list, do("ok", "connect", a, e.port))
	}
	return append(list, do("", "connect", e.neighbour, "7777").that(oneOf(unreached...)))
}

// amd64 are its second and third set of system calls, and those that it alone has.
func amd64() []probe {
	const x32 = 0x40000000
	return []probe{
		call("EPERM", "a number of x32", x32|unix.SYS_UNSHARE, unix.CLONE_NEWUSER).that(oneOf("EPERM", "ENOSYS")),
		call("EPERM", "mount, by a number with high bits", 1<<32|unix.SYS_MOUNT, text("none"), text("/tmp"), text("tmpfs"), 0, 0),
		call("EPERM", "iopl", 172, 3),
		call("EPERM", "ioperm", 173, 0x80, 1, 1),
		call("EPERM", "modify_ldt", 154, 0, nowhere, 8),
		// push rbx; mov eax, 310 (i386's unshare); mov ebx, CLONE_NEWUSER; int 0x80; pop rbx; ret
		{name: "unshare of i386", verb: "machine", args: []any{"53" + "b836010000" + "bb00000010" + "cd80" + "5b" + "c3"},
			ok: oneOf("EPERM", "ENOSYS", "signal 31", "signal 11")},
	}
}

const (
	neighboursKey    = 0x4c414d43
	neighboursSocket = "lambent-neighbour"
)

// leftBehind is what the neighbour does.
func (e *escape) leftBehind() []probe {
	return []probe{
		do("ok", "create", "/tmp/left"),
		do("ok", "read", "/tmp/left").that(oneOf("")),
		call("ok", "shmget", unix.SYS_SHMGET, neighboursKey, 4096, unix.IPC_CREAT|0o666),
		call("ok", "msgget", unix.SYS_MSGGET, neighboursKey, unix.IPC_CREAT|0o666),
		do("ok", "listen", "0.0.0.0:7777"),
		do("ok", "listen abstract", neighboursSocket),
		do("ok", "connect", "127.0.0.1", "7777"),
		do("ok", "abstract", neighboursSocket),
		do("", "addresses").that(func(string) error { return nil }),
		do("", "hold"),
	}
}

// gone is what the next in the same slot must not find of it.
func (e *escape) gone() []probe {
	return []probe{
		do("", "list", "/tmp").that(oneOf("", "lost+found")),
		do("", "list", "/dev/shm").that(oneOf("", "lost+found")),
		do("", "list", "/proc").that(processes),
		call("ENOENT", "shmget", unix.SYS_SHMGET, neighboursKey, 0, 0),
		call("ENOENT", "msgget", unix.SYS_MSGGET, neighboursKey, 0),
		do("ECONNREFUSED", "connect", "127.0.0.1", "7777"),
		do("ECONNREFUSED", "abstract", neighboursSocket),
		do("", "read", "/proc/net/unix").that(lacks(neighboursSocket)),
		do("", "read", "/proc/net/tcp").that(lacks(":1E61")), // 7777
		do("", "read", "/proc/sysvipc/shm").that(lacks(fmt.Sprint(neighboursKey))),
	}
}

// bombs are what the limits stop. Each is alone in a sandbox.
var bombs = []struct {
	name  string
	probe probe
	exit  sandbox.Exit
}{
	{"processes", do("", "forks").that(between(900, 1024, "EAGAIN")), sandbox.Exit{}},
	{"descriptors", do("", "descriptors").that(between(1000, 1024, "EMFILE")), sandbox.Exit{}},
	{"a disk", do("", "fill", "/tmp/full").that(between(450, 530, "ENOSPC")), sandbox.Exit{}},
	{"files", do("", "files", "/tmp").that(between(10_000, 1_000_000, "ENOSPC")), sandbox.Exit{}},
	{"memory", do("", "map", fmt.Sprint(1<<30)), sandbox.Exit{Signal: unix.SIGKILL, OOM: true}},
}

func (e *escape) bomb(t *testing.T, b struct {
	name  string
	probe probe
	exit  sandbox.Exit
},
) {
	tr := e.start(t, e.program, sandbox.Task{MemoryMB: 256}, []probe{b.probe})
	if b.exit == (sandbox.Exit{}) {
		b.probe.check(t, tr.result(t, b.probe.name))
	}
	if exit := await(t, tr.box); exit.Signal != b.exit.Signal || exit.OOM != b.exit.OOM {
		t.Errorf("it ended with %+v, want %+v", exit, b.exit)
	}
}

// useUp has one sandbox after another take all that there is of what the kernel
// counts by user or by machine. Each must get the same, and the host its own.
func (e *escape) useUp(t *testing.T) {
	probes := []probe{do("", "watchers"), do("", "requests"), do("", "hold")}
	var first *trial
	for range 3 { // while those before hold what they got
		tr := e.start(t, e.program, sandbox.Task{MemoryMB: 256}, probes)
		if first == nil {
			first = tr
		}
		for _, p := range probes[:2] {
			if one, other := first.result(t, p.name), tr.result(t, p.name); one != other {
				t.Errorf("%s: one sandbox got %q, another %q", p.name, one, other)
			}
		}
	}
	if got := first.result(t, "watchers"); !strings.HasSuffix(got, fmt.Sprintf("errno %d", unix.EMFILE)) {
		t.Errorf("watchers: %q, and no end", got)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Errorf("the host gets no watcher: %v", err)
	} else {
		unix.Close(fd)
	}
	var requests uintptr
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 128, uintptr(unsafe.Pointer(&requests)), 0); errno != 0 {
		t.Errorf("the host gets no asynchronous requests: %v", errno)
	} else {
		_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, requests, 0, 0)
	}
}

func oneOf(allowed ...string) func(string) error {
	return func(got string) error {
		for _, a := range allowed {
			if got == a {
				return nil
			}
		}
		return fmt.Errorf("got %.200q, want one of %q", got, allowed)
	}
}

func lacks(words ...string) func(string) error {
	return func(got string) error {
		for _, w := range words {
			if strings.Contains(got, w) {
				return fmt.Errorf("%q is in %.300q", w, got)
			}
		}
		return nil
	}
}

func between(low, high int, errno string) func(string) error {
	return func(got string) error {
		var n int
		if _, err := fmt.Sscanf(got, "%d, then "+errno, &n); err != nil || n < low || n > high {
			return fmt.Errorf("got %q, want %d to %d, then %s", got, low, high, errno)
		}
		return nil
	}
}

// processes are process 1, the program and whatever it has just run.
func processes(list string) error {
	n := 0
	for name := range strings.FieldsSeq(list) {
		if pid, err := strconv.Atoi(name); err == nil {
			if n++; pid > 2 {
				return fmt.Errorf("process %d is there", pid)
			}
		}
	}
	if n != 2 {
		return fmt.Errorf("%d processes, want 2", n)
	}
	return nil
}

func devices(list string) error {
	for name := range strings.FieldsSeq(list) {
		switch name {
		case "null", "zero", "full", "random", "urandom", "fd", "shm", "stdin", "stdout", "stderr":
		default:
			return fmt.Errorf("there is /dev/%s", name)
		}
	}
	return nil
}

// environment is what the function was given, and what interpreters add.
func environment(list string) error {
	for name := range strings.FieldsSeq(list) {
		if name != "MARK" && name != "PATH" && name != "LC_CTYPE" {
			return fmt.Errorf("%s is in the environment", name)
		}
	}
	return nil
}

// mounts are read-only but for /tmp, and none has devices or honours setuid that
// is not one of the five devices itself.
func mounts(table string) error {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		options := "," + f[3] + ","
		device := strings.HasPrefix(f[1], "/dev/") || f[0] == "devtmpfs" || strings.HasPrefix(f[1], "/proc/")
		for option, need := range map[string]bool{
			"nosuid": true, "nodev": !device, "ro": f[1] != "/tmp" && f[1] != "/proc" && !device,
		} {
			if need && !strings.Contains(options, ","+option+",") {
				return fmt.Errorf("%s is mounted without %s: %s", f[1], option, f[3])
			}
		}
	}
	return nil
}

func status(s string) error {
	for _, want := range []string{
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000",
		"CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
		"Uid:\t993\t993\t993\t993", "Gid:\t990\t990\t990\t990", "Groups:\t \n",
	} {
		if !strings.Contains(s, want) {
			return fmt.Errorf("/proc/self/status lacks %q", want)
		}
	}
	return nil
}

func limits(s string) error {
	for _, want := range []string{"Max core file size        1                    1 ", "Max open files            1024 ", "Max msgqueue size         0 ", "Max locked memory         65536 "} {
		if !strings.Contains(s, want) {
			return fmt.Errorf("/proc/self/limits lacks %q", want)
		}
	}
	return nil
}
