package vm

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
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	qemu  = "qemu-system-x86_64"
	cache = "../../.venv" // of tools/setup.sh

	exitLine = "VMEXIT " // with a number, the last that a machine says
	noStatus = -1        // of one that ended without
	noEnd    = -2        // of one that did not end in time
)

// A machine boots, does one job and ends. Whatever is done in it is gone then.
type machine struct {
	kernel string // directory of vmlinuz and modules
	root   string // image of its file system
	init   string // this program, for the inside
}

// run does a job, in a directory of its files by their names there, and returns
// its exit status. What the job prints goes to out; if the machine fails, so does
// what its kernel said.
func (m machine) run(t *testing.T, limit time.Duration, out io.Writer, argv []string, files map[string]string) int {
	t.Helper()
	dir := t.TempDir()
	initrd, console := filepath.Join(dir, "initrd"), filepath.Join(dir, "console")
	if err := m.writeInitrd(initrd, argv, files); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	// Not -M microvm, which has no clock to measure its processor's by, and hangs on
	// one boot in three. Not thread=multi, a third faster: there a processor may go on
	// with code that the kernel has just patched (when the first group gets a quota),
	// and it dies of "int3". What is written to the image goes to a temporary file.
	cmd := exec.CommandContext(ctx, find(qemu), "-M", "q35", "-accel", "tcg,thread=single", "-cpu", "Nehalem", "-smp", "2", "-m", "2048",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(m.kernel, "vmlinuz"), "-initrd", initrd, "-append", "console=ttyS0 reboot=t panic=-1 quiet",
		"-serial", "file:"+console,
		"-device", "virtio-serial-pci", "-chardev", "file,id=out,path=/dev/stdout", "-device", "virtserialport,chardev=out",
		"-drive", "if=none,id=root,format=raw,snapshot=on,file="+m.root, "-device", "virtio-blk-pci,drive=root")
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
	status := noStatus
	for r := bufio.NewReader(pipe); ; {
		line, err := r.ReadString('\n')
		if code, ok := strings.CutPrefix(line, exitLine); ok {
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
		status = noEnd
	}
	if status < 0 {
		said, _ := os.ReadFile(console)
		fmt.Fprintf(out, "\nthe machine gave no status (%v, %v); its kernel said:\n%s\n", err, ctx.Err(), said[max(0, len(said)-8<<10):])
	}
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	t.Logf("%s %s: status %d in %.1f s, for %.1f s of a processor", filepath.Base(m.kernel), strings.Join(argv, " "), status, time.Since(began).Seconds(), used.Seconds())
	return status
}

// build compiles what runs inside, which has no C library: the packages' tests,
// these, and what those would compile.
func build(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	programs := map[string]string{}
	watch(t)
	compile := func(name, source string, verb ...string) {
		programs[name] = filepath.Join(dir, strings.ReplaceAll(name, "/", "."))
		cmd := exec.Command("go", append(verb, "-ldflags=-s -w", "-o", programs[name], source)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	for _, pkg := range append([]string{self}, packages...) {
		compile(pkg, "lambent/"+pkg, "test", "-c")
	}
	compile(probe, "../../sandbox/sandboxtest/testdata/probe.go", "build")
	return programs
}

const (
	self  = "test/vm"
	probe = "probe" // which package sandboxtest compiles where it can
)

// watch opens all that the programs are made of. Go repeats the result of a test for
// as long as nothing has changed that the test has opened, and cannot see what a
// compiler opens for it.
func watch(t *testing.T) {
	t.Helper()
	args := []string{"list", "-deps", "-test", "-f", `{{$d := .Dir}}{{with .Module}}{{if .Main}}{{$d}}{{range $.EmbedFiles}} {{$d}}/{{.}}{{end}}{{end}}{{end}}`}
	for _, pkg := range packages {
		args = append(args, "lambent/"+pkg)
	}
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
