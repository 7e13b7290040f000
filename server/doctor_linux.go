package server

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hostFindings tells of the limits and kernel features that matter to functions:
// what the drivers of this release use, and what isolation will need.
func hostFindings(data string) []Finding {
	var u unix.Utsname
	_ = unix.Uname(&u) // fails for a bad address only
	out := []Finding{{"system", "kernel", Good, unix.ByteSliceToString(u.Release[:]), ""}}

	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
		f := Finding{"limit", "open files", Good, fmt.Sprint(r.Max), ""}
		if r.Max < 16384 { // four for each of 4,000 instances
			f.State, f.Detail, f.Mend = Absent, fmt.Sprintf("%d: enough for about %d instances at a time", r.Max, r.Max/6), "ulimit -n 65536"
		}
		out = append(out, f)
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		out = append(out, Finding{"limit", "memory", Good, fmt.Sprintf("%d MB", uint64(info.Totalram)*uint64(info.Unit)>>20), ""})
	}
	var fs unix.Statfs_t
	for dir := data; ; dir = filepath.Dir(dir) { // the nearest that is there
		if unix.Statfs(dir, &fs) == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return out
		}
	}
	free := int64(fs.Bavail) * fs.Bsize >> 20
	f := Finding{"limit", "disk", Good, fmt.Sprintf("%d MB free for %s", free, data), ""}
	if free < 1024 {
		f.State, f.Mend = Absent, "lambent serve --data DIR, on a larger disk"
	}
	out = append(out, f)

	feature := func(name string, ok bool, detail, mend string) {
		f := Finding{"kernel", name, Good, detail, ""}
		if !ok {
			f.State, f.Mend = Absent, mend
		}
		out = append(out, f)
	}
	version, detail := cgroups()
	feature("cgroups", version != "", detail, "")
	out = append(out, swapFinding(read("/proc/swaps"), "/sys/fs/cgroup"))
	out = append(out, pollFinding("/sys")...)
	out = append(out, consoleFinding("/proc")...)
	max := strings.TrimSpace(read("/proc/sys/user/max_user_namespaces"))
	feature("user namespaces", max != "" && max != "0", "at most "+max, "sysctl user.max_user_namespaces=65536")
	feature("seccomp filters", strings.Contains(read("/proc/sys/kernel/seccomp/actions_avail"), "errno"), "by user programs", "")
	fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		unix.Close(fd)
	}
	feature("mount API", err == nil, "open_tree, move_mount, mount_setattr", "")
	return out
}

// swapFinding tells whether functions can be kept out of the machine's swap, of what
// /proc/swaps has, and where control groups are mounted.
func swapFinding(swaps, groups string) Finding {
	f := Finding{"kernel", "swap", Good, "none", ""}
	if strings.Count(swaps, "\n") < 2 { // the first line is the heading
		return f
	}
	limited, _ := filepath.Glob(filepath.Join(groups, "memory", "memory.limit_in_bytes")) // the only error is a bad pattern
	counted, _ := filepath.Glob(filepath.Join(groups, "memory", "memory.memsw.limit_in_bytes"))
	if len(limited) == 0 { // version 2 has limits below its top alone
		limited, _ = filepath.Glob(filepath.Join(groups, "*", "memory.max"))
		counted, _ = filepath.Glob(filepath.Join(groups, "*", "memory.swap.max"))
	}
	f.Detail = "functions have none of it"
	if len(limited) > 0 && len(counted) == 0 {
		f.State, f.Detail = Absent, "not counted by this kernel: a function over its memory's limit may be swapped, and not ended"
		f.Mend = "swapaccount=1 among GRUB_CMDLINE_LINUX in /etc/default/grub (package grub2-common), update-grub, reboot   (or: swapoff -a)"
	}
	return f
}

// pollFinding tells of a virtual machine whose processors sleep as soon as they have nothing
// to do, of what is below /sys: to wake one takes longer than all else of a warm call.
func pollFinding(sys string) []Finding {
	if strings.TrimSpace(read(filepath.Join(sys, "devices/system/cpu/cpuidle/current_governor"))) != "haltpoll" {
		return nil // no guest, or one whose kernel does not decide that
	}
	file := filepath.Join(sys, "module/haltpoll/parameters/guest_halt_poll_ns")
	f := Finding{"kernel", "idle processors", Good, "look for work for a while before they sleep", ""}
	if strings.TrimSpace(read(file)) == "0" {
		f.State, f.Detail = Absent, "sleep at once, where Linux would have them look for work for 0.2 ms: a call to a warm function takes half as long again"
		f.Mend = "echo 200000 | sudo tee " + file
	}
	return []Finding{f}
}

// consoleFinding tells of a kernel that prints its errors on a serial line, of what is below
// /proc: to write one there takes milliseconds, for which a processor does nothing else.
func consoleFinding(proc string) []Finding {
	var lines []string
	for console := range strings.Lines(read(filepath.Join(proc, "consoles"))) { // ttyS0  -W- (EC  p a)  4:64
		name, flags, _ := strings.Cut(console, " ")
		if serial := strings.HasPrefix(name, "ttyS") || strings.HasPrefix(name, "ttyAMA"); serial && strings.Contains(flags, "(E") {
			lines = append(lines, name)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	const level = 3 // of errors
	file := filepath.Join(proc, "sys/kernel/printk")
	f := Finding{"kernel", "console", Good, "errors are kept off " + strings.Join(lines, ", "), ""}
	var below int // what is printed
	if _, err := fmt.Sscan(read(file), &below); err == nil && below > level {
		f.State, f.Detail = Absent, "errors are printed on "+strings.Join(lines, ", ")+", a serial line: when a function is ended for its memory a processor stands still for milliseconds"
		f.Mend = fmt.Sprintf("echo %d | sudo tee %s   (kernel.printk in /etc/sysctl.d)", level, file)
	}
	return []Finding{f}
}

func read(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "" // a feature that cannot be read of is not there
	}
	return string(b)
}

// cgroups tells which version holds the memory controller.
func cgroups() (version, detail string) {
	if c := read("/sys/fs/cgroup/cgroup.controllers"); strings.Contains(c, "memory") {
		return "v2", "v2: " + strings.TrimSpace(c)
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		return "v1", "v1, with a memory controller"
	}
	return "", "no memory controller"
}
