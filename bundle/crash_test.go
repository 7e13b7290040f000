package bundle_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/bundle"
)

// childDir in the environment makes this test program the child of TestKill.
const childDir = "BUNDLE_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		putForever(dir)
	}
	os.Exit(m.Run())
}

// putForever puts new trees, printing the digest of each once it is acknowledged.
func putForever(dir string) {
	s, err := bundle.Open(dir, lambent.DefaultLimits())
	for n := 0; err == nil; n++ {
		var es []entry
		for i := range 20 {
			es = append(es, entry{fmt.Sprintf("d%d/f%d", i%3, i), fmt.Sprint(os.Getpid(), n, i), 0o644})
		}
		var tree bundle.Tree
		if tree, err = s.PutZip(context.Background(), bytes.NewReader(makeZip(es...))); err == nil {
			fmt.Println(tree.Digest)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Killed at any moment, a store has every tree that it acknowledged, whole, and
// nothing half-done after the next Open.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "code")
	acknowledged := 0
	for range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(50+rand.IntN(200))*time.Millisecond, func() { cmd.Process.Kill() })
		var digests []string
		for lines := bufio.NewScanner(out); lines.Scan(); {
			digests = append(digests, strings.TrimSpace(lines.Text()))
		}
		cmd.Wait()

		s, err := bundle.Open(dir, lambent.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		leftovers(t, dir)
		for _, d := range digests {
			path, err := s.Path(d)
			if err != nil {
				t.Errorf("acknowledged and lost: %v", err)
				continue
			}
			if tree, err := s.PutDir(t.Context(), path); err != nil || tree.Digest != d {
				t.Errorf("%s is not whole: %+v, %v", d, tree, err)
			}
		}
		acknowledged += len(digests)
	}
	t.Logf("%d trees acknowledged", acknowledged)
}
