package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// The least limit on the way up counts, of what can be seen.
func TestLeast(t *testing.T) {
	const none = math.MaxInt64
	for _, c := range []struct {
		group  string
		limits map[string]string // by directory
		want   int64
	}{
		{group: "/", want: none},
		{group: "/a/b", limits: map[string]string{"a/b": "max", "a": "max"}, want: none},
		{group: "/a/b", limits: map[string]string{"a/b": "300", "a": "max"}, want: 300},
		{group: "/a/b", limits: map[string]string{"a/b": "max", "a": "200", "": "9223372036854771712"}, want: 200},
		{group: "/a/b", limits: map[string]string{"a/b": "300", "a": "200", "a/c": "100"}, want: 200},
		{group: "/docker/1234", limits: map[string]string{"": "100"}, want: 100}, // what is mounted is the container's group
		{group: "/../elsewhere", limits: map[string]string{"": "100"}, want: 100},
	} {
		top := t.TempDir()
		for dir, limit := range c.limits {
			if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(top, dir, "memory.max"), []byte(limit+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := least(top, c.group, "memory.max"); got != c.want {
			t.Errorf("%s with %v: %d, want %d", c.group, c.limits, got, c.want)
		}
	}
}
