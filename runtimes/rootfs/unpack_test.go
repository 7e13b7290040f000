package rootfs_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
	"lambent/runtimes/rootfs"
	"lambent/runtimes/rootfstest"
)

// What archives try that want out of their directory. Each is refused, or does what
// it would do to a process that has the directory as its root: nothing outside is
// made, changed or read.
func TestMaliciousArchives(t *testing.T) {
	outside := filepath.Join(publicDir(t), "outside")
	if err := os.Mkdir(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 12)
	long := strings.Repeat("d/", 2500)
	for name, c := range map[string]struct {
		entries []entry
		refusal string            // a pattern; empty: it is unpacked
		has     map[string]string // some of what is there then
	}{
		"absolute path":              {[]entry{{name: victim, body: "x"}}, "", map[string]string{victim[1:]: "-rw-r--r-- x"}},
		"dot dot":                    {[]entry{{name: up + victim, body: "x"}}, `has '\.\.' in its path`, nil},
		"dot dot in the middle":      {[]entry{{name: "a/../../b", body: "x"}}, `has '\.\.' in its path`, nil},
		"file through a link":        {[]entry{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "l/victim", body: "x"}}, "", map[string]string{"l": "-> " + outside, victim[1:]: "-rw-r--r-- x"}},
		"file through links up":      {[]entry{{name: "l", kind: tar.TypeSymlink, link: up + outside}, {name: "l/victim", body: "x"}}, "", map[string]string{victim[1:]: "-rw-r--r-- x"}},
		"file over a link":           {[]entry{{name: "l", kind: tar.TypeSymlink, link: victim}, {name: "l", body: "x"}}, "", map[string]string{"l": "-rw-r--r-- x"}},
		"directory over a link":      {[]entry{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "l", kind: tar.TypeDir, mode: 0o777}, {name: "f"}}, "", map[string]string{"l": "drwxr-xr-x"}},
		"links that go round":        {[]entry{{name: "a", kind: tar.TypeSymlink, link: "b"}, {name: "b", kind: tar.TypeSymlink, link: "a"}, {name: "a/f", body: "x"}}, `cannot be written: too many levels`, nil},
		"hard link outside":          {[]entry{{name: "h", kind: tar.TypeLink, link: victim}}, `which is not there`, nil},
		"hard link up":               {[]entry{{name: "h", kind: tar.TypeLink, link: up + victim}}, `has '\.\.' in its path`, nil},
		"hard link through a link":   {[]entry{{name: "l", kind: tar.TypeSymlink, link: outside}, {name: "h", kind: tar.TypeLink, link: "l/victim"}}, `which is not there`, nil},
		"hard link to a link":        {[]entry{{name: "l", kind: tar.TypeSymlink, link: victim}, {name: "h", kind: tar.TypeLink, link: "l"}, {name: "h", body: "x"}}, "", map[string]string{"l": "-> " + victim, "h": "-rw-r--r-- x"}},
		"hard link to a directory":   {[]entry{{name: "d", kind: tar.TypeDir}, {name: "h", kind: tar.TypeLink, link: "d"}}, `is a hard link to a directory`, nil},
		"hard link to itself":        {[]entry{{name: "f", body: "x"}, {name: "f", kind: tar.TypeLink, link: "./f"}}, "", map[string]string{"f": "-rw-r--r-- x"}},
		"written through hard link":  {[]entry{{name: "f", body: "x"}, {name: "h", kind: tar.TypeLink, link: "f"}, {name: "h", body: "y"}}, "", map[string]string{"f": "-rw-r--r-- x", "h": "-rw-r--r-- y"}},
		"devices and pipes":          {[]entry{{name: "sda", kind: tar.TypeBlock}, {name: "null", kind: tar.TypeChar}, {name: "p", kind: tar.TypeFifo}, {name: "f", body: "x"}}, "", map[string]string{"sda": "", "null": "", "p": "", "f": "-rw-r--r-- x"}},
		"set-user-id":                {[]entry{{name: "su", mode: 0o6777, body: "x"}, {name: "d", kind: tar.TypeDir, mode: 0o3777}}, "", map[string]string{"su": "-rwxr-xr-x x", "d": "drwxr-xr-x"}},
		"unreadable":                 {[]entry{{name: "f", mode: 0o1, body: "x"}, {name: "d", kind: tar.TypeDir, mode: 0o1}, {name: "d/e", body: "y"}}, "", map[string]string{"f": "-r-------x x", "d": "drwx-----x", "d/e": "-rw-r--r-- y"}},
		"below a file":               {[]entry{{name: "f", body: "x"}, {name: "f/g", body: "y"}}, `cannot be written: not a directory`, nil},
		"long name":                  {[]entry{{name: strings.Repeat("x", 300), body: "x"}}, `cannot be written: file name too long`, nil},
		"long path":                  {[]entry{{name: long + "f", body: "x"}}, `over 4096 bytes`, nil},
		"itself":                     {[]entry{{name: "./", kind: tar.TypeDir, mode: 0o1}, {name: "/", kind: tar.TypeSymlink, link: outside}, {name: "f", body: "x"}}, "", map[string]string{".": "drwxr-xr-x", "f": "-rw-r--r-- x"}},
		"nothing":                    {nil, `it is empty`, nil},
		"no files":                   {[]entry{{name: "d", kind: tar.TypeDir}}, `there are no files`, nil},
		"a kind that nobody knows":   {[]entry{{name: "f", kind: 'Z', body: ""}}, `only files, directories and links`, nil},
		"whiteouts in a plain file":  {[]entry{{name: "f", body: "x"}, {name: ".wh.f", body: "y"}}, "", map[string]string{"f": "-rw-r--r-- x", ".wh.f": "-rw-r--r-- y"}},
		"a link to nowhere, through": {[]entry{{name: "var/run", kind: tar.TypeSymlink, link: "/run"}, {name: "var/run/f", body: "x"}}, "", map[string]string{"run/f": "-rw-r--r-- x"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			file := tarOf(t, c.entries...)
			if c.refusal != "" {
				refused(t, s, provided(file), lambent.Invalid, c.refusal)
				noneLeft(t, s)
			} else {
				list := ls(t, s.Path(add(t, s, provided(file)).Tree))
				for path, want := range c.has {
					if list[path] != want {
						t.Errorf("%s is %q, want %q", path, list[path], want)
					}
				}
			}
			b, err := os.ReadFile(victim)
			if err != nil || string(b) != "untouched" {
				t.Fatalf("the file outside: %q, %v", b, err)
			}
			if entries, _ := os.ReadDir(outside); len(entries) != 1 {
				t.Fatalf("made outside: %v", entries)
			}
		})
	}
}

// Whiteouts of layers reach what is below them in the image, and nothing else.
func TestMaliciousWhiteouts(t *testing.T) {
	outside := publicDir(t)
	if err := os.WriteFile(filepath.Join(outside, "victim"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	host := rootfstest.Registry(t)
	lower := tarOf(t, entry{name: "a/f", body: "x"}, entry{name: "l", kind: tar.TypeSymlink, link: outside}, entry{name: "in", kind: tar.TypeSymlink, link: "/a"})
	for n, c := range []struct {
		upper   []entry
		refusal string
		has     map[string]string
	}{
		{[]entry{{name: "l/.wh.victim"}, {name: "l/.wh..wh..opq"}}, "", map[string]string{"a/f": "-rw-r--r-- x", "l": "-> " + outside}},
		{[]entry{{name: ".wh.l"}}, "", map[string]string{"l": "", "a/f": "-rw-r--r-- x"}},
		{[]entry{{name: "in/.wh.f"}}, "", map[string]string{"a/f": "", "a": "drwxr-xr-x"}},
		{[]entry{{name: ".wh..."}}, `removes nothing`, nil},
		{[]entry{{name: "a/.wh.."}}, `removes nothing`, nil},
		{[]entry{{name: "a/.wh."}}, `removes nothing`, nil},
		{[]entry{{name: "../.wh.victim"}}, `has '\.\.'`, nil},
		{[]entry{{name: ".wh..wh.plnk"}, {name: "b/c/d", body: "y"}, {name: "b/.wh..wh..opq"}, {name: "b/.wh.c"}, {name: "gone/.wh.x"}}, "", map[string]string{"a/f": "-rw-r--r-- x", "b/c/d": "-rw-r--r-- y"}},
		{[]entry{{name: "a/g", body: "y"}, {name: ".wh..wh..opq"}}, "", map[string]string{"a/f": "", "l": "", "a/g": "-rw-r--r-- y"}},
	} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := open(t)
			r := rootfs.Request{Name: "provided", From: rootfstest.Push(t, host, fmt.Sprintf("w:%d", n), rootfstest.Image(t, rootfstest.Layer(t, lower), rootfstest.Layer(t, tarOf(t, c.upper...))))}
			if c.refusal != "" {
				refused(t, s, r, lambent.Invalid, c.refusal)
				noneLeft(t, s)
				return
			}
			list := ls(t, s.Path(add(t, s, r).Tree))
			for path, want := range c.has {
				if list[path] != want {
					t.Errorf("%s is %q, want %q", path, list[path], want)
				}
			}
			if _, err := os.Stat(filepath.Join(outside, "victim")); err != nil {
				t.Error(err)
			}
		})
	}
}

// Limits hold for what really comes: files, their number, and what compresses to
// nothing.
func TestLimits(t *testing.T) {
	limit := func(o *rootfs.Options) { o.MaxBytes, o.MaxFiles = 1<<20, 10 }
	big := tarOf(t, entry{name: "a", body: strings.Repeat("a", 600<<10)}, entry{name: "b", body: strings.Repeat("b", 600<<10)})
	var many []entry
	for n := range 11 {
		many = append(many, entry{name: fmt.Sprint(n)})
	}
	bomb := gzipped(t, tarOf(t, entry{name: "a", body: strings.Repeat("\x00", 80<<20)}))
	tail := gzipped(t, append(tarOf(t, entry{name: "a"}), make([]byte, 80<<20)...))
	for name, c := range map[string]struct {
		file    []byte
		pattern string
	}{
		"bytes": {big, `over the limit of 1 MB`}, "files": {tarOf(t, many...), `more files in it than the limit of 10`},
		"bomb": {bomb, `over the limit of 1 MB`}, "tail": {tail, `over the limit of 1 MB`},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, limit)
			refused(t, s, provided(c.file), lambent.TooLarge, c.pattern)
			refused(t, s, rootfs.Request{Name: "provided", From: rootfstest.Push(t, rootfstest.Registry(t), "big:1", rootfstest.Image(t, rootfstest.Layer(t, unzipped(t, c.file))))}, lambent.TooLarge, c.pattern)
			noneLeft(t, s)
		})
	}
}

func TestGivenUp(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	file := tarOf(t, entry{name: "a", body: strings.Repeat("a", 1<<20)})
	r := rootfs.Request{Name: "provided", Tar: readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, file), nil
	})}
	if a, err := s.Add(ctx, r, io.Discard); !lambent.Is(err, lambent.Canceled) {
		t.Errorf("%+v, %v", a, err)
	}
	broken := errors.New("the connection broke")
	r.Tar = io.MultiReader(bytes.NewReader(file[:1000]), readerFunc(func([]byte) (int, error) { return 0, broken }))
	if a, err := s.Add(t.Context(), r, io.Discard); !lambent.Is(err, lambent.Invalid) || !errors.Is(err, broken) {
		t.Errorf("%+v, %v", a, err)
	}
	noneLeft(t, s)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A full disk is said to be one, and what was begun is gone.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(publicDir(t), "disk")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", dir).CombinedOutput(); err != nil {
		rootfstest.Missing(t, "a small disk cannot be mounted: "+string(out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	s := open(t, func(o *rootfs.Options) { o.Dir = filepath.Join(dir, "roots") })
	file := tarOf(t, entry{name: "a", body: strings.Repeat("a", 5<<20)})
	refused(t, s, provided(file), lambent.NoSpace, `no space is left on the disk`)
	refused(t, s, rootfs.Request{Name: "provided", From: rootfstest.Push(t, rootfstest.Registry(t), "big:1", rootfstest.Image(t, rootfstest.Layer(t, file)))}, lambent.NoSpace, `no space is left on the disk`)
	noneLeft(t, s)
	add(t, s, provided(tarOf(t, entry{name: "a", body: "a"})))
}

// FuzzUnpack: whatever an archive says, there is nothing outside of its tree, and in
// it are files, directories and links without privileges.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, entry{name: "a", body: "a"}, entry{name: "l", kind: tar.TypeSymlink, link: "/etc"}, entry{name: "l/x", body: "y"}, entry{name: "h", kind: tar.TypeLink, link: "a"}), true)
	f.Add(tarOf(f, entry{name: "d", kind: tar.TypeDir}, entry{name: "d/../x", body: "a"}, entry{name: "c", kind: tar.TypeChar}), false)
	f.Add(tarOf(f, entry{name: "d/.wh..wh..opq"}, entry{name: ".wh.a"}, entry{name: "/abs", mode: 0o7777, body: "a"}), true)
	f.Add(gzipped(f, tarOf(f, entry{name: "a", body: strings.Repeat("a", 1000)})), false)
	dir := publicDir(f)
	f.Fuzz(func(t *testing.T, file []byte, layered bool) {
		tree, err := os.MkdirTemp(dir, "tree-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(tree)
		inside := filepath.Join(tree, "up", "up", "inside")
		if err := os.MkdirAll(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = rootfs.Unpack(t.Context(), inside, bytes.NewReader(file), layered) // errors are fine
		err = filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			if !strings.HasPrefix(path, inside) && !strings.HasPrefix(inside, path) {
				t.Errorf("%s is outside", path)
			}
			if m := fi.Mode(); m&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket|fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) != 0 || m&fs.ModeSymlink == 0 && m.Perm()&0o022 != 0 {
				t.Errorf("%s is %v", path, m)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func unzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	out, err := rootfs.Decompressed(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
