package server

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"lambent"
)

// The data directory is given to the server's user whole, and once, and nothing else is
// given with it, whatever that user has put there.
func TestGiveData(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
			t.Fatal("needs root, to give files away")
		}
		t.Skip("needs root, to give files away")
	}
	const uid = serverUser
	dir := publicDir(t)
	outside := filepath.Join(dir, "outside")
	cfg := &Config{Data: filepath.Join(dir, "data")}
	at := func(name string) string { return filepath.Join(cfg.Data, name) }
	write(t, outside, at("code/a/b"), at("records/new"))
	for link, target := range map[string]string{"code/link": outside, "dangling": "nowhere", "up": ".."} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(outside, at("code/hard")); err != nil {
		t.Fatal(err)
	}
	if err := cfg.giveData(uid, uid); err != nil {
		t.Fatal(err)
	}
	for path, owner := range owners(t, dir) {
		want := uid
		if path == dir || path == outside || path == at("code/hard") {
			want = 0
		}
		if owner != want {
			t.Errorf("%s belongs to %d, want %d", path, owner, want)
		}
	}

	// It is the user's now: what lies there is.
	write(t, at("records/newer"))
	if err := os.RemoveAll(at("roots")); err != nil {
		t.Fatal(err)
	}
	if err := cfg.giveData(uid, uid); err != nil {
		t.Fatal(err)
	}
	now := owners(t, dir)
	if got := now[at("records/newer")]; got != 0 {
		t.Errorf("what lay in the user's directory was given to %d", got)
	}
	if got := now[at("roots")]; got != uid {
		t.Errorf("roots was made anew and is %d's", got)
	}
	if err := cfg.giveData(uid-1, uid-1); !lambent.Is(err, lambent.Forbidden) {
		t.Errorf("another's directory: %v", err)
	}
}

// publicDir returns a directory that everybody can pass through.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lambent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, files ...string) {
	t.Helper()
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// owners are those of everything in a directory, by path.
func owners(t *testing.T, dir string) map[string]int {
	t.Helper()
	found := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		found[path] = int(info.Sys().(*syscall.Stat_t).Uid)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
