package machine

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// copied are the programs of the host that are in every machine, too, with the
// libraries that they need. The rest is busybox.
var copied = []string{"sh", "python3", "node", "nft", "curl"}

// makeRoot makes the image of a machine's file system: some 200 MB in one to two
// seconds, which is why it is not kept.
func makeRoot(t *testing.T, programs map[string]string, copied []string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	for _, name := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "proc", "sys", "dev", "tmp", "run", "var/tmp", "root", "job"} {
		must(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	must(t, os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		must(t, os.Symlink("usr/"+name, filepath.Join(dir, name)))
	}
	for name, content := range map[string]string{
		"passwd":      "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
		"group":       "root:x:0:\nnogroup:x:65534:\n",
		"hosts":       "127.0.0.1 localhost\n",
		"resolv.conf": "",
	} {
		must(t, os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o644))
	}

	python := find("python3")
	stdlib := command(t, python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))")
	var hosts []string
	for _, name := range copied {
		hosts = append(hosts, find(name))
	}
	extensions, err := filepath.Glob(stdlib + "/lib-dynload/*.so")
	must(t, err)
	files := append([]string{stdlib}, hosts...)
	// The lines of ldd that have a path: NAME => PATH (ADDRESS), or the loader's own.
	for _, library := range regexp.MustCompile(`(?m)(/\S+) \(0x`).FindAllStringSubmatch(command(t, "ldd", append(hosts, extensions...)...), -1) {
		dir, err := filepath.EvalSymlinks(filepath.Dir(library[1])) // where /lib leads
		must(t, err)
		files = append(files, filepath.Join(dir, filepath.Base(library[1])))
	}
	slices.Sort(files)
	files = slices.Compact(files)
	// By tar, which keeps times: else Python would compile its library anew.
	archive := filepath.Join(t.TempDir(), "files.tar")
	command(t, "tar", append([]string{"-chPf", archive}, files...)...)
	command(t, "tar", "-xf", archive, "-C", dir)
	for _, unused := range []string{"test", "idlelib", "lib2to3", "ensurepip", "config-*"} {
		found, err := filepath.Glob(filepath.Join(dir, stdlib, unused))
		must(t, err)
		for _, path := range found {
			must(t, os.RemoveAll(path))
		}
	}

	command(t, "cp", find("busybox"), filepath.Join(dir, "usr/bin/busybox"))
	for _, name := range strings.Fields(command(t, find("busybox"), "--list")) {
		path := filepath.Join(dir, "usr/bin", name)
		if !exists(path) {
			must(t, os.Symlink("busybox", path))
		}
	}

	for name, path := range programs {
		command(t, "cp", path, filepath.Join(dir, "usr/bin", name))
	}

	image := dir + ".img"
	// No journal: the image is new for each test, and no machine's writes are kept.
	command(t, find("mke2fs"), "-q", "-t", "ext4", "-d", dir, "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1", image, "1G")
	return image
}

// find looks for the system's own programs before others of their name, which may
// be scripts that lead to somebody's home directory.
func find(program string) string {
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"} {
		if path := filepath.Join(dir, program); exists(path) {
			return path
		}
	}
	path, _ := exec.LookPath(program)
	return path
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
