package runtimes_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "rewrite the golden files with what our agents do")

// check compares the transcript of a case with the golden file of its language.
func check(t *testing.T, golden map[string]transcript, name string, got transcript) {
	t.Helper()
	want, ok := golden[name]
	if !ok {
		t.Fatalf("no golden transcript: run with -update and review the diff; got\n%s", show(t, got))
	}
	if g, w := show(t, got), show(t, want); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func show(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func goldenFile(language string) string {
	return filepath.Join("testdata", language+".golden.json")
}

func readGolden(t *testing.T, language string) map[string]transcript {
	t.Helper()
	golden := map[string]transcript{}
	b, err := os.ReadFile(goldenFile(language))
	if err != nil {
		if *update {
			return golden
		}
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	return golden
}

func writeGolden(t *testing.T, language string, golden map[string]transcript) {
	t.Helper()
	if err := os.WriteFile(goldenFile(language), []byte(show(t, golden)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func caseNames(cases map[string]call) []string { return slices.Sorted(maps.Keys(cases)) }

var (
	timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
	// Frames of the client itself, ours or AWS's, in a Python document and in the log.
	pythonClient = regexp.MustCompile(`File (\\?")[^"\\]*/(?:agents-\w+/python/\w+|awslambdaric/\w+)\.py\\?", line \d+, in \w+(\\n|\r)(?:[^"\\\r]|\\[^n])*`)
	// The same in what Python itself prints when it dies.
	pythonClientFrame = regexp.MustCompile(`(?m)^  File (?:CLIENT|"CLIENT"|"<frozen runpy>", line \d+, in \w+|"[^"]*/(?:agents-\w+/python/\w+|awslambdaric/\w+)\.py".*)\n(?:    .*\n)*`)
	// What Python 3.11 and later draw under the lines of a traceback.
	pythonCarets = regexp.MustCompile(`(\n|\\n) +[~^]+(?:\n|\\n)`)
	// Frames of Python's own library: where it is and its line numbers vary.
	pythonLibrary = regexp.MustCompile(`File (\\?")[^"\\]*/python3\.\d+/([^"\\]+)\\?", line \d+`)
	// The same where a message names a file of it.
	pythonLibraryFile = regexp.MustCompile(`\(/[^"\\()]*/python3\.\d+/([^"\\()]+)\)`)
	// A warning about a coroutine names the client's line where it was dropped.
	pythonWarning = regexp.MustCompile(`(?m)^(?:/.*: )?RuntimeWarning: .*\n(?:  .*\n)?`)
	pythonFrozen  = regexp.MustCompile(`(<frozen [\w.]+>\\?", line )\d+`)
	// Frames of a Node.js client, and of Node.js itself, in the forms of a
	// document, of an inspected error and of a line with '\r' in it.
	nodeFrame = regexp.MustCompile(`(?:,"|\r|\n) +at (?:[^"\r\n]*[ (])?(?:node:|file:///[^"\r\n]*(?:/aws-lambda-ric/|/aws-client\.mjs)|/[^"\r\n]*/(?:nodejs/\w+\.cjs|aws-lambda-ric/|aws-client\.mjs))[^"\r\n]*"?`)
	// What Node.js prints of itself.
	nodeIdentity = regexp.MustCompile(`(\(node|Node\.js)[: ]v?[\d.]+`)
	// Output of thousands of these is not for reviewing by eye.
	longRun = regexp.MustCompile(`x{9,}|y{9,}|c{9,}`)
	// The stack of what require could not find names the client.
	requireStack = regexp.MustCompile(`(\\n|\r|",")- /[^"\\\r\n]*(?:nodejs/agent\.cjs|aws-client\.mjs|aws-lambda-ric/[^"\\\r\n]*index\.mjs)`)
)

// normal takes out of a text what differs from one run, machine or client to the next.
func normal(s, task, opt string) string {
	if !utf8.ValidString(s) {
		s = strconv.Quote(s) // JSON could not hold it
	}
	s = longRun.ReplaceAllStringFunc(s, func(run string) string {
		if len(run) < 1000 {
			return run
		}
		return fmt.Sprintf("<%.1s, %d times>", run, len(run))
	})
	if len(s) > 1<<20 { // not for a golden file, and the rest takes a minute under the race detector
		return s
	}
	s = strings.NewReplacer(task, "/var/task", opt, "/opt").Replace(s)
	s = timestamp.ReplaceAllString(s, "TIME")
	s = pythonCarets.ReplaceAllString(s, "$1")
	s = pythonClientFrame.ReplaceAllString(s, "")
	s = pythonClient.ReplaceAllString(s, "File ${1}CLIENT${1}")
	s = pythonWarning.ReplaceAllString(s, "")
	s = pythonLibrary.ReplaceAllString(s, "File ${1}/python/$2${1}, line N")
	s = pythonLibraryFile.ReplaceAllString(s, "(/python/$1)")
	s = pythonFrozen.ReplaceAllString(s, "${1}N")
	s = nodeFrame.ReplaceAllString(s, "")
	s = nodeIdentity.ReplaceAllString(s, "$1 N")
	s = strings.ReplaceAll(s, "at StreamingInvokeProcessor.handler ", "at Runtime.handler ") // client 4's word for it
	s = requireStack.ReplaceAllString(s, "$1- CLIENT")
	return s
}

// transportOnly takes out what our agents and AWS's clients say differently to
// the server and no handler can see: AWS's name no type in a header when an
// invocation fails and no content type when the load does, and they advertise
// runtime updates in the log.
func (s transcript) transportOnly() transcript {
	s.Answers = slices.Clone(s.Answers)
	for i := range s.Answers {
		a := &s.Answers[i]
		if a.Kind != "response" {
			a.ErrorType, a.ContentType = "", ""
		}
	}
	s.Output = awsAdvice.ReplaceAllString(s.Output, "")
	return s
}

var awsAdvice = regexp.MustCompile(`(?m)^(\[WARNING\].*|.*"level": "WARNING".*)LAMBDA_WARNING: Unhandled exception.*\n`)

// normalFailure does the same to the trailers of a stream: a type and base64.
func normalFailure(s, task, opt string) string {
	kind, encoded, ok := strings.Cut(s, " ")
	if !ok {
		return s
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return s
	}
	return kind + " " + normal(string(b), task, opt)
}
