package detect

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// plainWords is a command line in which a shell would find nothing but words.
var plainWords = regexp.MustCompile(`^[\w./:=@%+, -]+$`)

// ParseCommand returns what is to be run for a command line: its words, or, where it
// has more to it, a shell with all of it.
func ParseCommand(line string) []string {
	line = strings.TrimSpace(line)
	words := strings.Fields(line)
	if !plainWords.MatchString(line) || strings.Contains(words[0], "=") {
		return []string{"/bin/sh", "-c", line}
	}
	return words
}

// serversOf are programs that say by their names what interprets them.
var serversOf = map[string][]string{
	GoogleNode:   {"node", "nodejs", "npm", "npx"},
	GooglePython: {"python", "python3", "gunicorn", "uvicorn", "hypercorn", "waitress-serve", "flask"},
	GoogleJava:   {"java"},
}

// commandWords returns the words of a command, or of the line that a shell has of it.
func commandWords(command []string) []string {
	if len(command) == 3 && command[1] == "-c" {
		return strings.Fields(command[2])
	}
	return command
}

// commandRuntime returns the runtime of a command: that of the interpreter which it
// names, or which the files beside it are for.
func commandRuntime(fsys fs.FS, command []string) string {
	words := commandWords(command)
	for _, family := range []string{GoogleNode, GooglePython, GoogleJava} {
		if slices.ContainsFunc(words, func(w string) bool { return slices.Contains(serversOf[family], w) }) {
			return family
		}
	}
	if strings.HasPrefix(command[0], "./") {
		return Web
	}
	switch python, _ := fs.Glob(fsys, "*.py"); {
	case exists(fsys, "package.json"):
		return GoogleNode
	case exists(fsys, "requirements.txt"), len(python) > 0:
		return GooglePython
	}
	return Web
}

// gunicornTimeout is what a command line has gunicorn do to workers that say nothing.
var gunicornTimeout = regexp.MustCompile(`\bgunicorn\b.*\s(?:--timeout[= ]|-t ?)([1-9]\d*)\b`)

// watchdog returns what is to be said of a command that has gunicorn kill workers which
// were frozen, or "".
func watchdog(command []string) string {
	m := gunicornTimeout.FindStringSubmatch(strings.Join(commandWords(command), " "))
	if m == nil {
		return ""
	}
	return "gunicorn's --timeout " + m[1] + " has it start its workers anew when an instance has been idle for so many seconds, which the next call waits for; without the flag it does not, and the function's own timeout ends what hangs"
}

// webLine returns what the web line of a Procfile runs.
func webLine(fsys fs.FS) string {
	for line := range strings.Lines(source(fsys, "Procfile")) {
		if command, ok := strings.CutPrefix(line, "web:"); ok && strings.TrimSpace(command) != "" {
			return command
		}
	}
	return ""
}

// findProcfile recognises a web server by the web line of a Procfile. One that starts
// Google's framework is found by that, which the code has to ask for.
func findProcfile(fsys fs.FS) (*found, error) {
	line := webLine(fsys)
	if _, framework := frameworkLine(line); line == "" || framework && (hasFramework(fsys) || pythonAsks(fsys) != "") {
		return nil, nil
	}
	return server(fsys, line, "Procfile has it"), nil
}

// findStart recognises a web server by the start script of package.json.
func findStart(fsys fs.FS) (*found, error) {
	pkg, err := readPackage(fsys)
	if err != nil || strings.TrimSpace(pkg.Scripts["start"]) == "" {
		return nil, err
	}
	return server(fsys, pkg.Scripts["start"], "package.json starts it so"), nil
}

func server(fsys fs.FS, line, why string) *found {
	command := ParseCommand(line)
	return &found{runtime: commandRuntime(fsys, command), command: command, why: why}
}
