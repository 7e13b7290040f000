package store_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lambent"
	"lambent/store"
)

// refused opens a directory that must be refused, with an error that has every
// one of words in its message or hint, on one line.
func refused(t *testing.T, dir string, kind lambent.Kind, words ...string) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err == nil {
		s.Close()
		t.Fatalf("%s was opened", dir)
	}
	wantKind(t, err, kind)
	e := err.(*lambent.Error)
	if e.Hint == "" {
		t.Errorf("%q has no hint", e.Message)
	}
	for _, w := range words {
		if !strings.Contains(e.Message+"\n"+e.Hint, w) {
			t.Errorf("%q (hint %q) does not name %q", e.Message, e.Hint, w)
		}
	}
	if strings.Contains(e.Message, "\n") {
		t.Errorf("%q is more than one line", e.Message)
	}
	t.Logf("%s (%s)", e.Message, e.Hint)
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	pid := fmt.Sprint(os.Getpid())
	refused(t, dir, lambent.Unavailable, dir, "pid "+pid, "kill "+pid)
	if err := s.Announce("127.0.0.1:9700"); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, lambent.Unavailable, dir, "pid "+pid+" on 127.0.0.1:9700", "kill "+pid)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	open(t, dir)
}

func TestFormat(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	format := filepath.Join(dir, "format")
	made, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		content string
		kind    lambent.Kind
		words   []string
	}{
		{"format 2\nmode single\n", lambent.Unsupported, []string{dir, "format 2", "up to format 1", "newer"}},
		{"format 0\nmode single\n", lambent.Unsupported, []string{"format 0"}},
		{"format 1\nmode cluster\n", lambent.Unsupported, []string{`"cluster"`, `"single"`}},
		{"", lambent.Invalid, []string{format}},
		{"hello\n", lambent.Invalid, []string{format, "hello"}},
	} {
		if err := os.WriteFile(format, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, c.kind, c.words...)
	}
	if err := os.Remove(format); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, lambent.Invalid, dir, "format")
	if err := os.WriteFile(format, made, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestDirectoryThatCannotBeOne(t *testing.T) {
	refused(t, "", lambent.Invalid, "empty")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, file, lambent.Invalid, file)
	refused(t, filepath.Join(file, "below"), lambent.Invalid, file)
	if os.Geteuid() != 0 {
		closed := t.TempDir()
		if err := os.Chmod(closed, 0o500); err != nil {
			t.Fatal(err)
		}
		refused(t, closed, lambent.Forbidden, closed, "not writable")
		return
	}
	foreign := t.TempDir()
	if err := os.Chown(foreign, 12345, -1); err != nil {
		t.Fatal(err)
	}
	refused(t, foreign, lambent.Forbidden, foreign, "uid 12345", "chown")
}

// On a disk that fills up, writes are refused with the cause, what was written
// stays, and deletes still make room.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a small disk")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no small disk here: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	s := open(t, dir)
	ctx := t.Context()
	var err error
	written := 0
	for ; err == nil && written < 100; written++ {
		_, err = s.Create(ctx, fmt.Sprintf("big.%d", written), make([]byte, store.MaxValueBytes))
	}
	wantKind(t, err, lambent.NoSpace)
	t.Logf("after %d MB: %v", written-1, err)
	e, err := s.Get(ctx, "big.0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, e.Key, e.Revision); err != nil {
		t.Errorf("delete on a full disk: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=64m", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// So full that not even the start fits.
	ballast := filepath.Join(dir, "ballast")
	if f, err := os.Create(ballast); err == nil {
		_, err = io.Copy(f, io.LimitReader(zeros{}, 1<<30))
		f.Close()
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk did not fill up: %v", err)
		}
	}
	refused(t, dir, lambent.NoSpace, dir, "no space")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	entries, err := list(ctx, s, "big")
	if err != nil || len(entries) != written-2 {
		t.Errorf("%d records after a full disk, %v; want %d", len(entries), err, written-2)
	}
	if _, err := s.Create(ctx, "small", nil); err != nil {
		t.Error(err)
	}
	s.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
