package runtimes

import (
	"fmt"
	"slices"
	"strings"

	"lambent"
)

// Family returns the language of a runtime's interpreter, "python" or "nodejs"; ""
// for provided, where the code is the program. A name that no runtime has is
// Invalid.
func Family(name string) (string, error) {
	switch {
	case !knownName.MatchString(name):
		return "", lambent.Errorf(lambent.Invalid, "runtime", "runtime %.64q is not one: there are python3.N, nodejsN.x and provided.al2023", name).
			WithHint("lambent runtime list")
	case strings.HasPrefix(name, "python"):
		return "python", nil
	case strings.HasPrefix(name, "nodejs"):
		return "nodejs", nil
	}
	return "", nil
}

// Programs returns what interpreters of a runtime are called, the most exact name
// first.
func Programs(name string) []string {
	if version, ok := strings.CutPrefix(name, "python"); ok {
		return []string{"python" + version, "python3", "python"}
	}
	return []string{"node", "nodejs"}
}

// Probe returns the arguments that make an interpreter of a family tell what it
// is, for whoever has to run a stranger's with care; Told reads what it answers.
func Probe(family string) []string { return slices.Clone(probes[family]) }

// Told returns the name of the runtime that an interpreter is, and its version.
// out and err are those of running it with the arguments of [Probe].
func Told(family string, out []byte, err error) (name, version string, _ error) {
	i, err := told(family, out, err)
	if err != nil {
		return "", "", err
	}
	if name = i.runtimeName(); name == "" {
		return "", "", fmt.Errorf("is %s %s, which is not supported", family, i.version)
	}
	return name, i.version, nil
}

// Describe makes a runtime of an interpreter, at a path as its sandboxes see it,
// that Told has identified. For provided there is none.
func Describe(name, program, version, agents string) (lambent.Runtime, error) {
	family, err := Family(name)
	if err != nil {
		return lambent.Runtime{}, err
	}
	if family == "" {
		return lambent.Runtime{Name: name, Guest: "lambda"}, nil
	}
	return interpreter{family: family, path: program, version: version}.runtime(name, agents), nil
}

// WithPackages returns the runtime with a directory of packages, which its
// sandboxes see at the path seen.
func WithPackages(rt lambent.Runtime, dir, seen string) lambent.Runtime {
	rt.Packages, rt.PackagesAt = dir, seen
	if len(rt.Boot) > 0 {
		rt.Boot = append(slices.Clone(rt.Boot), seen) // the agent's one argument
	}
	return rt
}
