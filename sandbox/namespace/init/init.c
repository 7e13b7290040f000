// The first program of a sandbox: what only root may do there, then never root
// again. It is born in new mount, pid, ipc and uts namespaces, in the network
// namespace and the control groups of its slot, with the template root of its
// runtime as "/". It finishes the root, joins the slot's user namespace, drops
// every capability, and forks: process 1 stays and reaps; process 2 waits to be
// told what to run and runs it.
//
// Freestanding, so that a sandbox costs one page of it: no libc, no allocation,
// one static buffer that is touched only as far as it is filled. build.sh builds
// it; the binaries beside it are checked in and compared by a test.
//
// With an argument it does none of this: "hold" makes a user namespace and keeps it
// until the driver has it open, any other ends at once.
//
// Descriptors, given by the driver:
//   0      /dev/null
//   1, 2   the output pipe
//   3      the agent's connection, or none
//   4      status, from here to the driver: see say()
//   5      start, both ways: what to run, then an errno if that fails; closed by exec
//   6      the user namespace
//   7      the mount for /tmp, detached
//   8      the system call filter, in a memory file
//   9      this program, as the driver executed it

#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <linux/seccomp.h>
#include <linux/resource.h>

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;

enum { OUT = 1, AGENT = 3, STATUS = 4, START = 5, USERNS = 6, TMP = 7, FILTER = 8, FIRST_UNUSED = 9 };

// AWS Lambda's ids inside.
enum { UID = 993, GID = 990 };

#define SIGKILL 9
#define SIGCHLD 17
#define MNT_DETACH 2
#define MS_RDONLY 1
#define MS_NOSUID 2
#define MS_NODEV 4
#define MS_NOEXEC 8
#define MS_BIND 4096

#if defined(__x86_64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return ret;
}
__asm__(".globl _start\n_start:\n xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call run\n");
#elif defined(__aarch64__)
static inline long sys6(long n, long a, long b, long c, long d, long e, long f) {
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
__asm__(".globl _start\n_start:\n mov x29,#0\n mov x0,sp\n bl run\n");
#else
#error "no system calls for this architecture"
#endif

#define sys(n, a, b, c, d, e) sys6(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

// say tells the driver: 'R' ready, 'X' with the wait status of process 2, 'E' with
// the step that failed and its errno. Each is 6 bytes, so that a read gets all.
static void say(u8 what, u8 step, u32 value) {
	u8 m[6] = {what, step, value, value >> 8, value >> 16, value >> 24};
	sys(write, STATUS, m, sizeof m, 0, 0);
}

// The steps, as the driver names them.
enum { FDS = 1, PROC, MASK, MOVE_TMP, HOSTNAME, LIMITS, KEYRING, JOIN_USERNS, GROUPS, BOUNDING, IDS, CAPS, DEATH, NO_NEW, SECCOMP, FORK };

static __attribute__((noreturn)) void quit(int code) {
	for (;;)
		sys(exit_group, code, 0, 0, 0, 0);
}

static long must(int step, long ret) {
	if (ret < 0 && ret > -4096) {
		say('E', step, -ret);
		quit(70);
	}
	return ret;
}

static u8 buffer[320 << 10]; // an environment of 4 KB by the rules, 256 KB by the kernel's patience
static char *pointers[8192];

// What a sandbox need not know of the host. Entries that this kernel lacks are skipped.
static const char *const masked[] = {"/proc/cmdline", "/proc/modules", "/proc/keys", "/proc/key-users", "/proc/partitions",
				     "/proc/diskstats", "/proc/interrupts", "/proc/swaps", "/proc/buddyinfo", "/proc/consoles"};

static void finish_root(void) {
	// The old one shows the host's processes: what lies below a mount must not come to light.
	must(PROC, sys(umount2, "/proc", MNT_DETACH, 0, 0, 0));
	must(PROC, sys(mount, "proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0));
	for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
		long r = sys(mount, "/dev/null", masked[i], 0, MS_BIND, 0);
		if (r != -2) // ENOENT
			must(MASK, r);
	}
	must(MOVE_TMP, sys(move_mount, TMP, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH));
}

static void limit(int what, u64 n) {
	u64 l[2] = {n, n};
	must(LIMITS, sys(prlimit64, 0, what, l, 0, 0));
}

static void limits(void) {
	// Not 0, at which the kernel still starts the host's handler of crashes, as root, if
	// core_pattern names one. 1 means neither; the filter keeps it so.
	limit(RLIMIT_CORE, 1);
	limit(RLIMIT_NOFILE, 1024);
	limit(RLIMIT_MEMLOCK, 64 << 10);
	limit(RLIMIT_MSGQUEUE, 0);
	limit(RLIMIT_SIGPENDING, 1024);
	limit(RLIMIT_RTPRIO, 0); // whatever the server itself was given
	limit(RLIMIT_NICE, 0);
	// If the host itself runs out of memory, functions go before the server does.
	long fd = must(LIMITS, sys(openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY, 0, 0));
	must(LIMITS, sys(write, fd, "500", 3, 0, 0));
	sys(close, fd, 0, 0, 0, 0);
}

// yields has whoever wakes up go before functions that compute, at once and not at the
// next tick: those that all calls wait for, as the server, are many short steps. How much
// functions have of the processors their weights alone say. Kernels before 6.12 take no
// notice.
static void yields(void) {
	struct sched_attr a = {.size = SCHED_ATTR_SIZE_VER0};
	if (sys(sched_getattr, 0, &a, SCHED_ATTR_SIZE_VER0, 0, 0) == 0 && a.sched_policy == SCHED_NORMAL) {
		a.sched_runtime = 4000000; // ns at a time: one tick of most kernels; others ask for 0.7 to 3 ms
		sys(sched_setattr, 0, &a, 0, 0, 0);
	}
}

static void drop_privileges(void) {
	must(KEYRING, sys(keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0));
	// Last, because mounting in a namespace that the host's users own needs theirs.
	must(JOIN_USERNS, sys(setns, USERNS, CLONE_NEWUSER, 0, 0, 0));
	must(GROUPS, sys(setgroups, 0, 0, 0, 0, 0));
	for (int c = 0; c < 64; c++) {
		long r = sys(prctl, PR_CAPBSET_DROP, c, 0, 0, 0);
		if (r == -22) // EINVAL: past the last one of this kernel
			break;
		must(BOUNDING, r);
	}
	must(IDS, sys(setresgid, GID, GID, GID, 0, 0));
	must(IDS, sys(setresuid, UID, UID, UID, 0, 0));
	// setresuid does not clear them here: the old id is not root in the new namespace.
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}};
	must(CAPS, sys(capset, &header, none, 0, 0, 0));
	// After the change of ids, which clears it.
	must(DEATH, sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
	must(NO_NEW, sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	long n = must(SECCOMP, sys(pread64, FILTER, buffer, sizeof buffer, 0, 0));
	struct sock_fprog filter = {n / sizeof(struct sock_filter), (struct sock_filter *)buffer};
	must(SECCOMP, sys(prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0));
}

// receive reads exactly n bytes, or ends the process: the driver is gone.
static void receive(u8 *to, u64 n) {
	while (n > 0) {
		long r = sys(read, START, to, n, 0, 0);
		if (r == -4) // EINTR
			continue;
		if (r <= 0)
			quit(0);
		to += r;
		n -= r;
	}
}

// start waits for what to run and runs it: three numbers (bytes, arguments,
// variables), then strings: the directory, the arguments, the variables.
static __attribute__((noreturn)) void start(void) {
	u32 head[3];
	receive((u8 *)head, sizeof head);
	if (head[0] > sizeof buffer || (u64)head[1] + head[2] + 2 > sizeof pointers / sizeof *pointers || head[1] == 0)
		quit(70);
	receive(buffer, head[0]);
	char *s = (char *)buffer, *dir = s, **argv = pointers, **env = pointers + head[1] + 1;
	for (u32 i = 0; i < head[1] + head[2]; i++) {
		while (*s++)
			;
		pointers[i < head[1] ? i : i + 1] = s; // an empty pointer between the two
	}
	long r = sys(chdir, dir, 0, 0, 0, 0);
	if (r == 0)
		r = sys(execve, argv[0], argv, env, 0, 0);
	u32 err = -r;
	sys(write, START, &err, sizeof err, 0, 0);
	quit(127);
}

// hold makes a user namespace, lets none be made below it (in a new one everybody
// has every capability), says how that went with an errno, and keeps it until its
// standard input ends. It runs as a user of the slot's, whose the namespace then is.
static __attribute__((noreturn)) void hold(void) {
	long r = sys(unshare, CLONE_NEWUSER, 0, 0, 0, 0);
	if (r == 0)
		r = sys(openat, AT_FDCWD, "/proc/sys/user/max_user_namespaces", O_WRONLY, 0, 0);
	if (r >= 0)
		r = sys(write, r, "0", 1, 0, 0);
	u8 err = r < 0 ? -r : 0;
	sys(write, OUT, &err, 1, 0, 0);
	while (sys(read, 0, buffer, 1, 0, 0) == -4) // EINTR
		;
	quit(0);
}

__attribute__((noreturn, used)) void run(const long *stack) {
	if (stack[0] > 1) { // the number of arguments
		if (*(const char *)stack[2] == 'h')
			hold();
		quit(0); // it was to run, and has
	}
	// Whatever else the driver's process had open when it was started itself.
	must(FDS, sys(close_range, FIRST_UNUSED, ~0u, 0, 0, 0));
	finish_root();
	must(HOSTNAME, sys(sethostname, "lambent", 7, 0, 0, 0));
	limits();
	yields();
	drop_privileges();
	must(FDS, sys(close_range, USERNS, FILTER, 0, 0, 0));
	must(FDS, sys(fcntl, START, F_SETFD, FD_CLOEXEC, 0, 0));
	long child = must(FORK, sys(clone, SIGCHLD, 0, 0, 0, 0));
	if (child == 0) {
		sys(close, STATUS, 0, 0, 0, 0);
		sys(setsid, 0, 0, 0, 0, 0);
		start();
	}
	sys(close_range, 0, AGENT, 0, 0, 0);
	sys(close, START, 0, 0, 0, 0);
	say('R', 0, 0);
	for (;;) {
		u32 status = 0;
		long pid = sys(wait4, -1, &status, 0, 0, 0);
		if (pid == child)
			say('X', 0, status);
		if (pid == child || pid == -10) // ECHILD
			quit(0);
	}
}
