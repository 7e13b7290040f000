package rows

import (
	"os"
	"path/filepath"
	"testing"
)

// What has no end is not read to it.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	good, large := filepath.Join(dir, "good"), filepath.Join(dir, "large")
	if err := os.WriteFile(good, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxCertificates+1); err != nil {
		t.Fatal(err)
	}
	if b, err := Certificates(good); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	for _, path := range []string{"/dev/zero", large, dir, filepath.Join(dir, "none")} {
		if _, err := Certificates(path); err == nil {
			t.Errorf("%s is read", path)
		}
	}
}
