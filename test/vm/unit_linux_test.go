package vm

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"lambent/test/machine"
)

const unit = "../../packaging/lambent.service"

// breaks says why directives that are good for other services are not in ours. Those of
// system calls and memory are inherited by functions, and are not about ours.
var breaks = map[string]string{
	"DeviceAllow":             "/tmp of sandboxes is on loop devices: /dev/loop-control and /dev/loopN",
	"DevicePolicy":            "as DeviceAllow",
	"DynamicUser":             "the server starts as root, and takes another user's rights by itself",
	"Group":                   "as DynamicUser",
	"MemoryDenyWriteExecute":  "functions inherit it, and Node.js and Java compile",
	"PrivateDevices":          "as DeviceAllow",
	"PrivateNetwork":          "the server's port, and the way out of functions, are the machine's",
	"PrivateUsers":            "mounts, networks and loop devices are made by the machine's root alone",
	"ProcSubset":              "what is set of sandboxes' networks is in /proc/sys",
	"ProtectClock":            "as DeviceAllow, of which it has one for clocks",
	"ProtectControlGroups":    "sandboxes are kept in control groups",
	"ProtectHostname":         "sandboxes have a host name, which its filter of system calls forbids to set",
	"ProtectKernelTunables":   "as ProcSubset: it makes /proc/sys read-only",
	"RestrictAddressFamilies": "functions inherit it",
	"RestrictNamespaces":      "sandboxes are namespaces",
	"StateDirectory":          "the data directory is the server's user's, and systemd would give all in it back to root at each start",
	"SystemCallFilter":        "functions inherit it, and have their own; @system-service has no mount",
	"User":                    "as DynamicUser",
}

// has is what it cannot do without.
var has = map[string]string{
	"Delegate=yes":       "control groups of sandboxes are below the unit's own, and systemd is to let them be",
	"KillMode=mixed":     "SIGTERM is for the server, and not for functions, whose calls are under way",
	"OOMPolicy=continue": "a function that is ended for its memory is no reason to end the server",
}

func directives(t *testing.T) (lines []string) {
	t.Helper()
	b, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "[") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestUnitsDirectives(t *testing.T) {
	wanted := map[string]bool{}
	for _, line := range directives(t) {
		name, _, _ := strings.Cut(line, "=")
		if why := breaks[name]; why != "" {
			t.Errorf("%s: %s", line, why)
		}
		wanted[line] = true
	}
	for line, why := range has {
		if !wanted[line] {
			t.Errorf("%s is not there: %s", line, why)
		}
	}
}

// TestUnit has systemd run the unit as it is.
func TestUnit(t *testing.T) {
	more := []string{"systemd", "systemctl"}
	machine.Need(t, more...)
	m := machine.New(t, map[string]string{"lambent": machine.Compile(t, "lambent/cmd/lambent", "build")}, more...)
	machine.Watch(t, "lambent/cmd/lambent")
	for _, kernel := range machine.Kernels {
		t.Run(kernel, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			var out bytes.Buffer
			m.Kernel = kernel
			if status := m.Run(ctx, t, &out, []string{"/bin/sh", "/job/unit.sh"}, map[string]string{"unit.sh": "testdata/unit.sh", "lambent.service": unit}); status != 0 {
				t.Errorf("status %d\n%s", status, &out)
			}
		})
	}
}
