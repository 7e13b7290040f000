// Package namespace is the sandbox driver of Linux, as root: a sandbox is a set of
// the kernel's namespaces (user, mount, pid, network, ipc, uts) with a root file
// system of its own, control groups, a system call filter, and no privilege.
//
// It guarantees what the promises of the design say: the code inside sees no file,
// process, memory, environment or network of the host's or of another function's,
// and cannot use more memory, processor share, processes or disk than it was
// given. It does not protect from the kernel itself, which all functions share:
// who can exploit that gets out. Nor does it answer the name queries of the code
// inside: it makes the sockets for them, which package names reads.
//
// Sandboxes are made ahead of use (parked), with a runtime booted in them, because
// that takes 1 to 30 ms; to assign code and limits to one takes a fraction of a
// millisecond. DESIGN.md tells how, in which order, and why.
package namespace

import (
	"log/slog"
	"path/filepath"
	"strings"

	"lambent"
)

// AgentsInside is where the agents' directory appears inside.
const AgentsInside = "/var/runtime"

// Options configure a Driver.
type Options struct {
	// Dir is where the files of disks are, which have no names: it is not changed.
	Dir string
	// Agents is the directory of the runtimes' agents on the host; empty: none.
	Agents string
	// Code and Roots are directories below which the code that is assigned, and the
	// root file systems of runtimes, must lie. Whoever may write there can put
	// nothing else of the machine into a sandbox. Empty: anywhere.
	Code, Roots string
	// Interpreters reports whether a program that lies neither there nor in the system's
	// directories is an interpreter, whose installation may be put into sandboxes. It is
	// called concurrently. Nil: each is.
	Interpreters func(program string) bool
	// Yield has all sandboxes together weigh a quarter of what whoever serves them
	// does, where they compute on the same processors.
	Yield bool
	// Logger gets what goes wrong where nobody can be told.
	Logger *slog.Logger
}

// Accepts says why the driver cannot run a runtime of the host, or returns nil.
func Accepts(rt lambent.Runtime) error {
	_, err := visible(rt)
	return err
}

// visible returns the directory outside of the system's that a runtime of the host
// needs, if it needs one: where its interpreter is, with its library beside it.
func visible(rt lambent.Runtime) (string, error) {
	if len(rt.Boot) == 0 || rt.Root != "" {
		return "", nil
	}
	program := filepath.Clean(rt.Boot[0])
	for _, system := range []string{"/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(program, system) {
			return "", nil
		}
	}
	dir := filepath.Dir(program)
	if filepath.Base(dir) == "bin" {
		dir = filepath.Dir(dir)
	}
	// The prefix of an installation lies deeper than a home, and than what holds many.
	parts := strings.Split(strings.Trim(dir, "/"), "/")
	if parts[0] == "tmp" {
		return "", lambent.Errorf(lambent.Unsupported, "namespace.Park", "functions could not see %s: they have a /tmp of their own", program)
	}
	if len(parts) < 2 || len(parts) < 3 && parts[0] != "opt" {
		return "", lambent.Errorf(lambent.Unsupported, "namespace.Park", "functions that ran on it would see all of %s", dir)
	}
	return dir, nil
}
