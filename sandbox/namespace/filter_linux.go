//go:build amd64 || arm64

package namespace

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"strings"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"lambent"
)

// allowed is what functions may ask of the kernel: Docker's default list without
// what needs a capability, without what only debuggers, other kinds of virtual
// machines and exploits want, and without what the machine has one of for all.
// DESIGN.md argues the differences. Whatever is not here, or is unknown to this
// architecture, fails with EPERM.
const allowed = `
read write futex epoll_wait epoll_pwait epoll_pwait2 recvfrom sendto recvmsg sendmsg readv writev nanosleep clock_nanosleep
clock_gettime clock_getres gettimeofday time getpid gettid getppid tgkill rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending
rt_sigqueueinfo rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack mmap munmap mprotect mremap madvise brk close open openat
openat2 creat stat fstat lstat newfstatat statx access faccessat faccessat2 lseek pread64 pwrite64 preadv pwritev preadv2 pwritev2
poll ppoll select pselect6 pause restart_syscall exit exit_group wait4 waitid vfork fork execve execveat kill tkill

accept accept4 bind connect listen getsockname getpeername getsockopt setsockopt shutdown sendmmsg recvmmsg
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait_old eventfd eventfd2 signalfd signalfd4
timerfd_create timerfd_settime timerfd_gettime inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
pipe pipe2 dup dup2 dup3 fcntl flock ioctl close_range sendfile splice tee copy_file_range
fadvise64 fallocate fsync fdatasync sync_file_range truncate ftruncate readahead
getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat
readlink readlinkat mknod mknodat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask
utime utimes utimensat futimesat statfs fstatfs ustat
getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr

getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid
getpgid getpgrp setpgid getsid setsid capget capset arch_prctl getrandom uname sysinfo times getrusage
getrlimit getpriority setpriority ioprio_get ioprio_set getcpu getitimer setitimer alarm
timer_create timer_settime timer_gettime timer_getoverrun timer_delete
sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler sched_setscheduler
sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_getattr
set_tid_address set_robust_list get_robust_list rseq membarrier futex_waitv futex_wake futex_wait futex_requeue
mlock mlock2 munlock mlockall munlockall mincore msync memfd_create memfd_secret pkey_alloc pkey_free pkey_mprotect
mseal map_shadow_stack cachestat remap_file_pages get_thread_area set_thread_area
pidfd_open pidfd_send_signal landlock_create_ruleset landlock_add_rule landlock_restrict_self
shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl
mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr`

// namespaceFlags are the flags of clone that make a namespace.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID |
	unix.CLONE_NEWNET | unix.CLONE_NEWTIME

// conditional is what is allowed with some arguments only.
func conditional() []seccomp.NameWithConditions {
	when := func(name string, c ...seccomp.Condition) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: c}
	}
	is := func(arg uint32, value uint64) seccomp.Condition {
		return seccomp.Condition{Argument: arg, Operation: seccomp.Equal, Value: value}
	}
	list := []seccomp.NameWithConditions{
		when("clone", seccomp.Condition{Argument: 0, Operation: seccomp.BitsNotSet, Value: namespaceFlags}),
		when("socketpair", is(0, unix.AF_UNIX)),
		when("socket", is(0, unix.AF_UNIX)),
		when("socket", is(0, unix.AF_NETLINK), is(2, unix.NETLINK_ROUTE)), // how C libraries list interfaces
	}
	// No protocol that would have the kernel load a module, and none that is raw.
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, protocol := range []uint64{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			list = append(list, when("socket", is(0, family), is(2, protocol)))
		}
	}
	// No filter of its own: see DESIGN.md. The kernel looks at 32 bits of the number.
	list = append(list, when("prctl", seccomp.Condition{Argument: 0, Operation: seccomp.NotEqual, Value: unix.PR_SET_SECCOMP},
		seccomp.Condition{Argument: 0, Operation: seccomp.LessOrEqual, Value: math.MaxUint32}))
	// Linux as it is, 32-bit names for it, and what it is: nothing that weakens it.
	for _, persona := range []uint64{0, 0x0008, 0x20000, 0x20008, 0xffffffff} {
		list = append(list, when("personality", is(0, persona)))
	}
	// Every limit but that of core dumps, which init.c explains. What is not among
	// these numbers has high bits that the kernel would not look at.
	for resource := range uint64(unix.RLIMIT_RTTIME + 1) {
		if resource != unix.RLIMIT_CORE {
			list = append(list, when("setrlimit", is(0, resource)), when("prlimit64", is(1, resource)))
		}
	}
	return append(list, when("prlimit64", is(2, 0))) // reading
}

// filter assembles the list into the program that the kernel runs for every system
// call of a sandbox.
func filter() ([]byte, error) {
	const op = "namespace.New"
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, lambent.Errorf(lambent.Unsupported, op, "no system call filter for this architecture: %w", err)
	}
	var names []string
	for name := range strings.FieldsSeq(allowed) {
		if _, ok := info.SyscallNames[name]; ok { // what an architecture lacks cannot be called
			names = append(names, name)
		}
	}
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			// Its flags are out of a filter's sight. C libraries take this answer for an
			// old kernel, and use clone.
			{Names: []string{"clone3"}, Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
			{Names: names, NamesWithCondtions: conditional(), Action: seccomp.ActionAllow},
		},
	}
	program, err := policy.Assemble()
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "system call filter: %w", err)
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "system call filter: %w", err)
	}
	var b bytes.Buffer
	for _, i := range raw { // struct sock_filter
		if err := binary.Write(&b, binary.NativeEndian, i); err != nil {
			return nil, lambent.Errorf(lambent.Internal, op, "system call filter: %w", err)
		}
	}
	return b.Bytes(), nil
}

// memoryFile returns a file without a place, with the content, that nobody can
// write any more.
func memoryFile(name string, content []byte) (*os.File, error) {
	const op = "namespace.New"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, lambent.Errorf(lambent.Internal, op, "%w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		f.Close()
		return nil, lambent.Errorf(lambent.Internal, op, "cannot seal %s: %w", name, err)
	}
	return f, nil
}
