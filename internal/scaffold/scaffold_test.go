package scaffold_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/scaffold"
)

var update = flag.Bool("update", false, "rewrite the examples from the templates")

// The examples called hello are what the templates make, so that what a newcomer
// gets is what the tests of the examples run.
func TestHelloExamplesAreTheTemplates(t *testing.T) {
	for _, lang := range scaffold.Templates() {
		t.Run(lang, func(t *testing.T) {
			name := lang + "-hello"
			example := filepath.Join("../../examples", "aws-"+name)
			if strings.HasPrefix(lang, "gcp-") {
				example = filepath.Join("../../examples", name)
			}
			dir := t.TempDir()
			files, err := scaffold.Write(dir, lang, name)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.RemoveAll(example); err != nil {
					t.Fatal(err)
				}
				if _, err := scaffold.Write(example, lang, name); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range files {
				want, err := os.ReadFile(filepath.Join(dir, f))
				if err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(filepath.Join(example, f)); string(got) != string(want) {
					t.Errorf("%s/%s is not what the template makes (%v): run the test with -update", example, f, err)
				}
				if strings.Contains(string(want), "{{") {
					t.Errorf("%s has a placeholder left", f)
				}
			}
			if !slices.Contains(files, "lambent.toml") || !slices.Contains(files, "README.md") {
				t.Errorf("files are %v", files)
			}
		})
	}
}

func TestWriteOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "lambent.toml")
	if err := os.WriteFile(mine, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := scaffold.Write(dir, "python", "hello"); !lambent.Is(err, lambent.Exists) || !strings.Contains(err.Error(), "lambent.toml") {
		t.Errorf("Write = %v, want Exists with the file's name", err)
	}
	entries, _ := os.ReadDir(dir)
	if b, _ := os.ReadFile(mine); string(b) != "mine" || len(entries) != 1 {
		t.Errorf("lambent.toml is %q beside %v", b, entries)
	}
}

func TestWriteRefuses(t *testing.T) {
	for _, c := range []struct{ template, name, words string }{
		{"cobol", "hello", "gcp-go, gcp-java, gcp-node, gcp-python, go, node, python"},
		{"python", "he/llo", "function name"},
		{"python", "", "function name"},
	} {
		dir := filepath.Join(t.TempDir(), "new")
		if _, err := scaffold.Write(dir, c.template, c.name); !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("Write(%q, %q) = %v, want %q", c.template, c.name, err, c.words)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Error("the directory was made all the same")
		}
	}
}
