package server

import "lambent/internal/cgroup"

// groupMemory is the least limit of the control groups in which this process is, in bytes.
func groupMemory() int64 { return cgroup.Memory() }
