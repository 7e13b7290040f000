package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Memory is how much this process may have, in bytes: the least limit of its group and of
// those above, as far as they can be seen. Without one it is more than any machine has.
func Memory() int64 {
	two, one, err := mounts()
	if err != nil {
		return math.MaxInt64
	}
	own, err := own()
	switch {
	case err != nil:
		return math.MaxInt64
	case two != "":
		return least(two, own[""], "memory.max")
	case one["memory"] != "":
		return least(one["memory"], own["memory"], "memory.limit_in_bytes")
	}
	return math.MaxInt64
}

// least is the least limit that a file of this name sets on the way from a group up to top,
// where the hierarchy is mounted. In a container the mount may begin at the group itself, or
// below what the kernel speaks of: what is not there says nothing.
func least(top, group, file string) int64 {
	limit := int64(math.MaxInt64)
	for dir := filepath.Join("/", group); ; dir = filepath.Dir(dir) {
		b, err := os.ReadFile(filepath.Join(top, dir, file))
		if n, wrong := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && wrong == nil && n > 0 { // or "max"
			limit = min(limit, n)
		}
		if dir == "/" {
			return limit
		}
	}
}
