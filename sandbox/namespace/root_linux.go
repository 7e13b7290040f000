//go:build amd64 || arm64

package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/osthread"
)

// Where things are inside.
const (
	taskDir   = lambent.TaskInside
	optDir    = "/opt"
	tmpDir    = "/tmp"
	agentsDir = AgentsInside
	resolver  = "169.254.100.1" // where internal/netns answers for the outside
)

// A root is the root file system of a runtime's sandboxes: a mount namespace that
// is never run in, and that each of them is born with a copy of. Its content is a
// small tmpfs with what the runtime needs mounted into it, all of it read-only.
type root struct {
	mounts *os.File
	of     []string // directories of the host that the runtime brings; empty names: none

	compiled *os.File // lambent.CompiledInside, where only we can write

	// Guarded by the driver's rootMu.
	begun     map[string]bool // names of runtimes whose programs were run
	compiling int             // programs that run: who runs them has no hold of the directories
	gone      bool            // closed
}

func (r *root) close() error { return errors.Join(r.mounts.Close(), r.compiled.Close()) }

// ofHost is what sandboxes see of /etc where the runtime is the host's.
var ofHost = []string{
	"alternatives", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version", "fonts", "gai.conf", "java-*", "maven/logging", "maven/m2.conf", "ld.so.cache", "ld.so.conf",
	"ld.so.conf.d", "locale.alias", "localtime", "magic", "magic.mime", "mime.types", "os-release", "pki/ca-trust/extracted", "pki/java", "pki/tls/cert.pem", "pki/tls/certs",
	"protocols", "python3*", "rpc", "services", "ssl/cert.pem", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
}

// made is what every sandbox has in /etc instead.
var made = map[string]string{
	"passwd":        "root:x:0:0:root:/:/sbin/nologin\nsbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
	"group":         "root:x:0:\nsbx_user1051:x:990:\nnogroup:x:65534:\n",
	"hostname":      "lambent\n",
	"hosts":         "127.0.0.1 localhost\n127.0.0.1 lambent\n",
	"resolv.conf":   "nameserver " + resolver + "\noptions timeout:5\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}

// makeRoot builds the root of a runtime. show is a directory of the host to be
// seen, too: one that any user can reach, so that nobody learns more by it.
func makeRoot(ts *threads, agents, show string, rt lambent.Runtime) (*root, error) {
	if show != "" {
		if err := public(show); err != nil {
			return nil, err
		}
	}
	r := &root{begun: map[string]bool{}}
	// The thread leaves the namespace behind when it ends.
	err := osthread.Do(func() (err error) {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Setns(int(ts.workshop.Fd()), unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("setns", err)
		}
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return os.NewSyscallError("mount", err)
		}
		r.mounts, r.compiled, err = buildRoot(workshopDir, agents, show, rt)
		return err
	})
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "namespace.Park", "the root file system of %s: %w", rt.Name, err)
	}
	return r, nil
}

// public says why some user may be unable to reach a directory, or returns nil.
func public(dir string) error {
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		fi, err := os.Lstat(d)
		if err != nil {
			return lambent.Errorf(lambent.NotFound, "namespace.Park", "%w", err)
		}
		if !fi.IsDir() || fi.Mode().Perm()&0o001 == 0 {
			return lambent.Errorf(lambent.Forbidden, "namespace.Park", "functions may not see %s: %s is closed to others (mode %v)", dir, d, fi.Mode())
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

// buildRoot builds it over dir, in the calling thread's namespace, which becomes
// the root's. It returns that, and the one directory in it that can be written, by
// whoever has the file.
func buildRoot(dir, agents, show string, rt lambent.Runtime) (mounts, compiled *os.File, err error) {
	if err := unix.Mount("lambent", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=4m"); err != nil {
		return nil, nil, os.NewSyscallError("mount", err)
	}
	b := builder{from: rt.Root, to: dir}
	if rt.Root == "" {
		b.from = "/"
		for _, name := range []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
			b.show(name)
		}
		for _, pattern := range ofHost {
			found, _ := filepath.Glob(filepath.Join(b.from, "etc", pattern))
			for _, f := range found {
				b.show(strings.TrimPrefix(f, "/"))
			}
		}
		if show != "" {
			b.show(strings.TrimPrefix(show, "/"))
		}
	} else {
		b.showAll(".", "dev", "etc", "home", "opt", "proc", "root", "run", "sys", "tmp", "var")
		b.showAll("etc", append(slices.Collect(maps.Keys(made)), "mtab")...)
		b.showAll("var", "task", "runtime", "packages", "node_modules", filepath.Base(lambent.CompiledInside), "tmp", "run", "lib")
		b.showAll("opt")
	}
	for _, d := range []string{"dev", "etc", "proc", "opt", "tmp", "var/task", "var/runtime"} {
		b.mkdir(d)
	}
	for name, content := range made {
		b.write("etc/"+name, content)
	}
	for link, target := range map[string]string{
		"etc/mtab": "/proc/self/mounts", "var/tmp": tmpDir, "dev/shm": tmpDir, // disk-backed and limited, like all that is written
		"dev/fd": "/proc/self/fd", "dev/stdin": "/proc/self/fd/0", "dev/stdout": "/proc/self/fd/1", "dev/stderr": "/proc/self/fd/2",
	} {
		b.link(link, target)
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		b.write("dev/"+name, "")
		b.bind("/dev/"+name, "dev/"+name, device)
	}
	switch {
	case rt.Packages == "":
	case rt.PackagesAt == taskDir: // until there is code, which is put over them
		b.bind(rt.Packages, strings.TrimPrefix(taskDir, "/"), readOnly)
	default:
		inside := strings.TrimPrefix(lambent.PackagesInside, "/")
		b.mkdir(inside)
		b.bind(rt.Packages, inside, readOnly)
		if _, err := os.Lstat(filepath.Join(rt.Packages, "node_modules")); err == nil {
			b.link("var/node_modules", lambent.PackagesInside+"/node_modules") // see lambent.PackagesInside
		}
	}
	if agents != "" {
		b.bind(agents, strings.TrimPrefix(agentsDir, "/"), readOnly)
	}
	inside := filepath.Join(dir, lambent.CompiledInside)
	b.mkdir(strings.TrimPrefix(lambent.CompiledInside, "/"))
	if b.err != nil {
		return nil, nil, b.err
	}
	at, err := open(inside, unix.O_PATH)
	if err != nil {
		return nil, nil, err
	}
	compiled, err = clone(at, writable) // before the rest becomes read-only
	at.Close()
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			compiled.Close()
		}
	}()
	if err := unix.Chdir(dir); err != nil {
		return nil, nil, &os.PathError{Op: "chdir", Path: dir, Err: err}
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return nil, nil, os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil { // the old root, which lies over the new one
		return nil, nil, os.NewSyscallError("umount", err)
	}
	// Of the host's processes, for the kernel to find the init by; each sandbox
	// puts its own in its place before anything else.
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return nil, nil, os.NewSyscallError("mount", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return nil, nil, os.NewSyscallError("mount", err)
	}
	mounts, err = os.Open("/proc/thread-self/ns/mnt")
	return mounts, compiled, err
}

// A builder fills a root. After its first failure it does nothing.
type builder struct {
	from, to string
	err      error
}

// show makes what lies at name in the source appear at name. What is not there is
// left out; symbolic links stay links.
func (b *builder) show(name string) {
	if b.err != nil {
		return
	}
	source := filepath.Join(b.from, name)
	f, err := open(source, unix.O_PATH)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) { // a link on the way: what it leads to is shown itself
		return
	}
	if err != nil {
		b.err = err
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		b.err = err
		return
	}
	switch {
	case fi.Mode()&fs.ModeSymlink != 0:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(f.Fd()), "", target)
		if err != nil {
			b.err = &fs.PathError{Op: "readlink", Path: source, Err: err}
			return
		}
		b.link(name, string(target[:n]))
	case fi.IsDir():
		b.mkdir(name)
		b.mount(f, name, readOnly)
	case fi.Mode().IsRegular():
		b.write(name, "")
		b.mount(f, name, readOnly)
	}
}

// showAll shows the entries of a directory, if it is one, apart from some.
func (b *builder) showAll(dir string, except ...string) {
	f, err := open(filepath.Join(b.from, dir), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil { // not there, or a link, which may lead out of the root
		return
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if b.err == nil {
		b.err = err
	}
	for _, name := range names {
		if !slices.Contains(except, name) {
			b.show(filepath.Join(dir, name))
		}
	}
}

func (b *builder) mkdir(name string) {
	if b.err == nil {
		b.err = os.MkdirAll(filepath.Join(b.to, name), 0o755)
	}
}

func (b *builder) write(name, content string) {
	b.mkdir(filepath.Dir(name))
	if b.err == nil {
		b.err = os.WriteFile(filepath.Join(b.to, name), []byte(content), 0o644)
	}
}

func (b *builder) link(name, target string) {
	b.mkdir(filepath.Dir(name))
	if b.err == nil {
		b.err = os.Symlink(target, filepath.Join(b.to, name))
	}
	if errors.Is(b.err, fs.ErrExist) {
		b.err = fmt.Errorf("%s is there twice: %w", name, b.err)
	}
}

func (b *builder) bind(source, name string, attributes uint64) {
	if b.err == nil {
		b.err = bind(source, filepath.Join(b.to, name), attributes)
	}
}

func (b *builder) mount(of *os.File, name string, attributes uint64) {
	if b.err != nil {
		return
	}
	m, err := clone(of, attributes)
	if err != nil {
		b.err = err
		return
	}
	defer m.Close()
	b.err = attach(m, filepath.Join(b.to, name))
}
