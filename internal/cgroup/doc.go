// Package cgroup keeps sandboxes in control groups of the kernel, version 2 or
// the older version 1: it limits their memory, processes and processor time,
// measures what they used, freezes and kills them whole. Linux only.
//
// A [Tree] is a directory of groups that belongs to one server. Opening it ends
// whatever an earlier server of that name has left, so that after a crash nothing
// runs on. A [Group] holds one sandbox; a child is born in it, by its descriptor
// (version 2) or by a thread that is in it while it forks (version 1), because to
// move a process in later waits for every fork and exit on the machine: 15 ms.
//
// What both versions can do means the same in both. Where a kernel is older than
// a figure, the comment there says what is given instead. The package knows
// processes, not sandboxes: who is in a group is the caller's business.
package cgroup
