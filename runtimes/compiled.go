package runtimes

import (
	"regexp"
	"slices"

	"lambent"
)

// invokerPath is where Google's invoker for Java is looked for in the code, and
// functionPath where functions are: what Maven and Gradle leave, and directories of
// jars. A loader of its own keeps the ones from the other's classes, but for those of
// the API.
const (
	invokerPath  = "invoker/*:./*:lib/*:target/dependency/*"
	functionPath = "target/classes:.:./*:lib/*:target/*:target/dependency/*:build/libs/*"
)

// compiled returns the runtime of Google's for code that is compiled, in Go or for
// Java.
func (i interpreter) compiled(name string) (lambent.Runtime, bool) {
	r := lambent.Runtime{Name: name, Guest: "gcf", Family: "google-" + i.family, Note: i.path + " (" + i.version + ")"}
	switch i.family {
	case "go":
		r.LateBoot = []string{"./bootstrap"}
	case "java":
		r.Boot = []string{
			i.path, "-XX:+NeverActAsServerClassMachine", "-XX:-UsePerfData",
			"-cp", invokerPath, "com.google.cloud.functions.invoker.runner.Invoker", "--classpath", functionPath,
		}
		r.BootLate = true
	default:
		return lambent.Runtime{}, false
	}
	return r, true
}

var javaProperty = regexp.MustCompile(`(?m)^\s*java\.(home|version) = (\S.*?)\s*$`)

// javaTold is what Java tells of itself in the form in which others do: its version,
// its program and a file of its library.
func javaTold(out []byte) []byte {
	var home, version []byte
	for _, m := range javaProperty.FindAllSubmatch(out, -1) {
		if string(m[1]) == "home" {
			home = m[2]
		} else {
			version = m[2]
		}
	}
	if home == nil || version == nil {
		return out
	}
	return slices.Concat(version, []byte("\n"), home, []byte("/bin/java\n"), home, []byte("/lib/modules\n"))
}
