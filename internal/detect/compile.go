package detect

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"lambent"
)

// beforeProgram is what comes before the program that a line of the shell starts.
var beforeProgram = regexp.MustCompile(`^(exec$|[A-Za-z_]\w*=)`)

// compile has the program of a command built if it is not there and its source is, or
// refuses what would fail for the lack of it.
func (f *Function) compile(fsys fs.FS) error {
	program := commandProgram(f.Command)
	if there, err := fs.Glob(fsys, path.Clean(program)); program == "" || err != nil || len(there) > 0 {
		return nil
	}
	jar, binary, dir := strings.HasSuffix(program, ".jar"), path.Ext(path.Base(program)) == "", path.Dir(path.Clean(program))
	top, _ := goSource(fsys)
	hint := ""
	for _, c := range []struct {
		manifest, build string
		builds          bool
		hint            string
	}{
		{"go.mod", "go", binary && top == "main", "go build -o " + program + " ./PACKAGE"},
		{"Cargo.toml", "cargo", binary && exists(fsys, "src/main.rs"), "cargo build --release && cp target/release/PROGRAM " + program},
		{"pom.xml", "maven", jar && dir == "target", "mvn package"},
		{"build.gradle", "gradle", jar && dir == "build/libs", "gradle assemble"},
		{"build.gradle.kts", "gradle", jar && dir == "build/libs", "gradle assemble"},
	} {
		switch {
		case !exists(fsys, c.manifest):
		case c.builds:
			f.Build = c.build
			if !jar { // what is built has a name of its own
				i := slices.Index(f.Command, program)
				if i < 0 { // in a shell's line
					i = len(f.Command) - 1
				}
				f.Command = slices.Clone(f.Command)
				f.Command[i] = strings.Replace(f.Command[i], program, "./bootstrap", 1)
			}
			return nil
		case hint == "":
			hint = c.hint
		}
	}
	if hint == "" || installs(fsys, f.Runtime) != "" {
		return nil
	}
	return lambent.Errorf(lambent.Invalid, op, "the command runs %s, which is not there, and is not built here", program).WithHint("%s && lambent deploy", hint)
}

// commandProgram returns the file beside the code that a command runs: a program, or the
// jar of Java's; "" if that is another, or cannot be told.
func commandProgram(command []string) string {
	words := commandWords(command)
	for len(words) > 0 && beforeProgram.MatchString(words[0]) {
		words = words[1:]
	}
	if i := slices.Index(words, "-jar"); i >= 0 {
		words = words[i+1:]
	}
	if len(words) == 0 {
		return ""
	}
	program := strings.Trim(words[0], `"';`)
	if !strings.Contains(program, "/") && !strings.HasSuffix(program, ".jar") || path.IsAbs(program) || strings.ContainsAny(program, "$`~(") {
		return ""
	}
	return program
}
