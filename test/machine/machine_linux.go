// Package machine boots small virtual machines for tests: with control groups of
// version 2, which a machine to work on need not have, with other kernels, and with a
// power that can be cut.
//
// The machine is QEMU's, and emulated: that there is a /dev/kvm does not mean that
// it can run a kernel that nobody tried. It is 5 to 20 times slower than the host at
// what sandboxes do, so a test that runs here holds nothing to milliseconds.
package machine

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Kernels are what tools/setup.sh fetches: the oldest that people run sandboxes on, and
// a newer one.
var Kernels = []string{"6.1", "6.12"}

const qemu = "qemu-system-x86_64"

// ExitLine is the last that a machine says, with a number behind it.
const ExitLine = "VMEXIT "

// What Run returns of a machine that gave no status of its own.
const (
	Died = -1 - iota // it ended without, as when its kernel panics
	Off              // it was switched off
)

// kernel is the directory of one, with vmlinuz and modules.
func kernel(version string) string { return filepath.Join("../../.venv", "linux-"+version) }

// A Machine boots, does one job and ends. What is done in its own file system is gone
// then.
type Machine struct {
	Kernel string // one of Kernels
	Disk   string // one more, /dev/vdb, as QEMU's -drive has it, which writes 4 KB at a time; empty: none

	root string // image of its file system
	init string // the first program
}

// New makes a machine, with the first of Kernels. It has programs in /usr/bin, by their
// names, and some more of the host's.
func New(t *testing.T, programs map[string]string, more ...string) Machine {
	t.Helper()
	return Machine{Kernel: Kernels[0], root: makeRoot(t, programs, append(more, copied...)), init: Compile(t, "lambent/test/machine/init", "build")}
}

// Need skips where something is missing, or fails if nothing may. more are programs that
// the machine is to have of the host's.
func Need(t *testing.T, more ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes minutes")
	}
	var missing []string
	if runtime.GOARCH != "amd64" {
		missing = append(missing, "an amd64 processor")
	}
	for _, program := range slices.Concat([]string{qemu, "mke2fs", "busybox", "ldd"}, copied, more) {
		if find(program) == "" {
			missing = append(missing, program)
		}
	}
	for _, version := range Kernels {
		if !exists(filepath.Join(kernel(version), "vmlinuz")) {
			missing = append(missing, "Linux "+version)
		}
	}
	if missing == nil {
		return
	}
	const mend = "needs %s: tools/setup.sh test"
	if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
		t.Fatalf(mend, strings.Join(missing, ", "))
	}
	t.Skipf(mend, strings.Join(missing, ", "))
}

// Run does a job, in a directory of its files by their names there, and returns
// its exit status. What the job prints goes to out; if the machine fails, so does
// what its kernel said. When ctx ends the machine is off, as by a cut of its power.
func (m Machine) Run(ctx context.Context, t *testing.T, out io.Writer, argv []string, files map[string]string) int {
	t.Helper()
	dir := t.TempDir()
	initrd, console := filepath.Join(dir, "initrd"), filepath.Join(dir, "console")
	if err := m.writeInitrd(initrd, argv, files); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(initrd)
	// Not -M microvm, which has no clock to measure its processor's by, and hangs on
	// one boot in three. Not thread=multi, a third faster: there a processor may go on
	// with code that the kernel has just patched (when the first group gets a quota),
	// and it dies of "int3". What is written to the image goes to a temporary file.
	args := []string{"-M", "q35", "-accel", "tcg,thread=single", "-cpu", "Nehalem", "-smp", "2", "-m", "2048",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(kernel(m.Kernel), "vmlinuz"), "-initrd", initrd, "-append", "console=ttyS0 reboot=t panic=-1 quiet",
		"-serial", "file:" + console,
		"-device", "virtio-serial-pci", "-chardev", "file,id=out,path=/dev/stdout", "-device", "virtserialport,chardev=out",
		"-drive", "if=none,id=root,format=raw,snapshot=on,file=" + m.root, "-device", "virtio-blk-pci,drive=root"}
	if m.Disk != "" {
		args = append(args, "-drive", "if=none,id=disk,"+m.Disk, "-device", "virtio-blk-pci,drive=disk,logical_block_size=4096,physical_block_size=4096")
	}
	cmd := exec.CommandContext(ctx, find(qemu), args...)
	var complaints bytes.Buffer // of QEMU's own, which come beside what the machine says
	cmd.Stderr = &complaints
	// A machine without its test would run on for ever.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	status := Died
	for r := bufio.NewReader(pipe); ; {
		line, err := r.ReadString('\n')
		if code, ok := strings.CutPrefix(line, ExitLine); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(code)); err == nil {
				status = n
			}
		} else {
			fmt.Fprint(out, line)
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	fmt.Fprint(out, complaints.String())
	if ctx.Err() != nil {
		status = Off
	}
	if status == Died {
		said, _ := os.ReadFile(console)
		fmt.Fprintf(out, "\nthe machine gave no status (%v); its kernel said:\n%s\n", err, said[max(0, len(said)-8<<10):])
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	t.Logf("Linux %s %s: status %d in %.1f s, for %.1f s of a processor", m.Kernel, strings.Join(argv, " "), status, time.Since(began).Seconds(), used.Seconds())
	return status
}

// Compile has Go make a program that runs inside, where there is no C library: verb is
// build, or test -c.
func Compile(t *testing.T, source string, verb ...string) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", append(verb, "-ldflags=-s -w", "-o", program, source)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return program
}

// Watch opens all that packages and their tests are made of. Go repeats the result of a
// test for as long as nothing has changed that the test has opened, and cannot see what
// a compiler opens for it.
func Watch(t *testing.T, packages ...string) {
	t.Helper()
	args := append([]string{"list", "-deps", "-test", "-f", `{{$d := .Dir}}{{with .Module}}{{if .Main}}{{$d}}{{range $.EmbedFiles}} {{$d}}/{{.}}{{end}}{{end}}{{end}}`}, packages...)
	for _, path := range strings.Fields(command(t, "go", args...)) {
		f, err := os.Open(path) // a directory stands for all files in it
		must(t, err)
		f.Close()
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
