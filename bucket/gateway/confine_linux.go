package gateway

import (
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"lambent"
)

// Confine has the calling process see no files but those in a directory, and connect to
// nobody by TCP, for ever, and runs the program again in its place, with argv: what is
// forbidden belongs to threads, of which a program that is run has one. It returns nil,
// having done nothing, where the kernel cannot (before Linux 5.13, or without Landlock),
// and otherwise why it failed.
func Confine(dir string, argv []string) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 || abi < 2 { // without REFER no file could be moved to another directory
		return nil
	}
	const (
		read  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
		write = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
			unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
			unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
	)
	rules := unix.LandlockRulesetAttr{Handled_access_fs: read | write}
	if abi >= 3 {
		rules.Handled_access_fs |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	size := unsafe.Offsetof(rules.Handled_access_net)
	if abi >= 4 {
		rules.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size = unsafe.Offsetof(rules.Scoped)
	}
	fail := func(err error) error {
		return lambent.Errorf(lambent.Internal, "gateway", "the gateway of buckets cannot be confined to %s: %w", dir, err)
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), size, 0)
	if errno != 0 {
		return fail(errno)
	}
	defer unix.Close(int(set))
	allowed := map[string]uint64{
		dir:     rules.Handled_access_fs,
		"/proc": unix.LANDLOCK_ACCESS_FS_READ_DIR, // where files without a name get one
	}
	program, err := programFiles()
	if err != nil {
		return fail(err)
	}
	for _, file := range program {
		allowed[file] = unix.LANDLOCK_ACCESS_FS_READ_FILE
	}
	for path, access := range allowed {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fail(err)
		}
		beneath := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
		_, _, errno = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, set, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
		_ = unix.Close(fd)
		if errno != 0 {
			return fail(errno)
		}
	}
	runtime.LockOSThread() // the thread that executes is the one that stays
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fail(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return fail(errno)
	}
	return fail(syscall.Exec("/proc/self/exe", argv, []string{}))
}

// programFiles are the files that the program is made of, which running it again takes.
func programFiles() ([]string, error) {
	mapped, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	files := map[string]bool{"/proc/self/exe": true}
	for line := range strings.Lines(string(mapped)) {
		if i := strings.IndexByte(line, '/'); i >= 0 { // its name is the last field
			files[strings.TrimSuffix(line[i:], "\n")] = true
		}
	}
	files["/etc/ld.so.cache"] = true // by which the libraries among them are found
	return slices.DeleteFunc(slices.Collect(maps.Keys(files)), func(file string) bool {
		_, err := os.Stat(file)
		return err != nil
	}), nil
}
