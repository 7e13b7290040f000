package build_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/bundle"
	"lambent/control/build"
	"lambent/guest/platformtest"
)

// goEnv asks the toolchain that runs this test.
func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// options build without a network: modules come from this machine's cache, and
// compiled packages are shared with it.
func options(t *testing.T) build.Options {
	t.Helper()
	trees, err := bundle.Open(filepath.Join(platformtest.PublicDir(t), "code"), lambent.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return build.Options{
		CacheDir: t.TempDir(), WorkDir: t.TempDir(), Trees: trees, MaxTree: 250 << 20, MaxFiles: 100_000,
		GoCache: goEnv(t, "GOCACHE"),
		Path:    filepath.Join(goEnv(t, "GOROOT"), "bin"),
		Proxy:   "file://" + goEnv(t, "GOMODCACHE") + "/cache/download",
		SumDB:   "off",
	}
}

// put makes a builder and has it find what is in a directory.
func put(t *testing.T, o build.Options, src string) (b *build.Builder, trees *bundle.Store, digest string) {
	t.Helper()
	b, err := build.New(o)
	if err != nil {
		t.Fatal(err)
	}
	trees = o.Trees.(*bundle.Store)
	tree, err := trees.PutDir(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return b, trees, tree.Digest
}

// made builds what is in a directory, and returns where the result is.
func made(t *testing.T, o build.Options, r build.Request, src string, progress io.Writer) (dir string, err error) {
	t.Helper()
	b, trees, digest := put(t, o, src)
	r.Source = digest
	out, err := b.Build(t.Context(), r, progress)
	if left, _ := filepath.Glob(filepath.Join(o.WorkDir, "lambent-build-*")); len(left) > 0 {
		t.Errorf("a build left behind: %v", left)
	}
	if err != nil {
		return "", err
	}
	dir, pathErr := trees.Path(out.Digest)
	if pathErr != nil {
		t.Fatal(pathErr)
	}
	return dir, nil
}

// source writes a directory of name, content, name, content...
func source(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		file := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	module = "module x\n\ngo 1.24\n"
	hello  = "package main\n\nimport _ \"embed\"\n\n//go:embed data/text.txt\nvar text string\n\nfunc main() { print(text) }\n"
)

func TestBuild(t *testing.T) {
	src := source(t, "go.mod", module, "main.go", hello, "data/text.txt", "hello", "bootstrap", "an old one", "main_test.go", "package main")
	if err := os.Symlink("data/text.txt", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	out, err := made(t, options(t), build.Request{Kind: "go"}, src, &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	said, err := exec.Command(filepath.Join(out, "bootstrap")).CombinedOutput()
	if err != nil || string(said) != "hello" {
		t.Errorf("bootstrap says %q, %v", said, err)
	}
	var files []string
	filepath.WalkDir(out, func(path string, d os.DirEntry, err error) error {
		if !d.IsDir() {
			rel, _ := filepath.Rel(out, path)
			files = append(files, rel)
		}
		return err
	})
	if got := strings.Join(files, " "); got != "bootstrap data/text.txt link" {
		t.Errorf("the result has %s", got)
	}
	if target, err := os.Readlink(filepath.Join(out, "link")); target != "data/text.txt" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}

func TestBuildExample(t *testing.T) {
	if testing.Short() {
		t.Skip("builds aws-lambda-go")
	}
	o := options(t)
	if _, err := os.Stat(strings.TrimPrefix(o.Proxy, "file://") + "/github.com/aws/aws-lambda-go/@v/v1.55.1.zip"); err != nil {
		t.Skipf("aws-lambda-go is not in the module cache: %v", err)
	}
	var progress bytes.Buffer
	out, err := made(t, o, build.Request{Kind: "go"}, "../../examples/aws-go-hello", &progress)
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if info, err := os.Stat(filepath.Join(out, "bootstrap")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("bootstrap: %v, %v", info, err)
	}
}

func TestBuildRefuses(t *testing.T) {
	needs := module + "\nrequire example.com/nowhere v1.0.0\n"
	uses := "package main\n\nimport \"example.com/nowhere\"\n\nfunc main() { nowhere.X() }\n"
	sum := "example.com/nowhere v1.0.0 h1:We2cCp4BwqqH/JW+bEEo1FhgG71rslvjfi4y7KmlrR0=\n" +
		"example.com/nowhere v1.0.0/go.mod h1:V+NzkHNR6vBC8C1PDloqSLE+7jYWFiPvJJFiCiTm8nE=\n"
	for name, c := range map[string]struct {
		files       []string
		proxy       string
		words, hint string
		alsoPrinted string
	}{
		"no go.mod":      {files: []string{"main.go", hello}, words: "no go.mod", hint: "go mod init"},
		"compile error":  {files: []string{"go.mod", module, "main.go", "package main\n\nfunc main() { undefinedThing() }\n"}, words: "main.go:3:15: undefined: undefinedThing", alsoPrinted: "undefined: undefinedThing"},
		"bad go.mod":     {files: []string{"go.mod", "modul x", "main.go", hello}, words: "go.mod:1"},
		"no main":        {files: []string{"go.mod", module, "lib.go", "package lib\n"}, words: "package main"},
		"no go.sum":      {files: []string{"go.mod", needs, "main.go", uses}, words: "nowhere", hint: "go mod tidy"},
		"not offline":    {files: []string{"go.mod", needs, "go.sum", sum, "main.go", uses}, proxy: "off", words: "cannot be downloaded", hint: "go mod vendor"},
		"not in proxy":   {files: []string{"go.mod", needs, "go.sum", sum, "main.go", uses}, words: "cannot be downloaded", hint: "go mod vendor"},
		"replace out":    {files: []string{"go.mod", needs + "\nreplace example.com/nowhere => ../nowhere\n", "main.go", uses}, words: `"../nowhere", which is not in what was deployed`, hint: "go mod vendor"},
		"replace hidden": {files: []string{"go.mod", needs + "\nreplace example.com/nowhere => ./a/../../b\n", "main.go", uses}, words: "not in what was deployed"},
		"replace root":   {files: []string{"go.mod", needs + "\nreplace example.com/nowhere => /etc\n", "main.go", uses}, words: "not in what was deployed"},
		"newer go":       {files: []string{"go.mod", "module x\n\ngo 1.99\n", "main.go", hello}, words: "go >= 1.99", hint: "newer Go"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			if c.proxy != "" {
				o.Proxy = c.proxy
			}
			var progress bytes.Buffer
			_, err := made(t, o, build.Request{Kind: "go"}, source(t, c.files...), &progress)
			e, ok := err.(*lambent.Error)
			if !ok || e.Kind != lambent.Broken || !strings.Contains(e.Message, c.words) || strings.Contains(e.Message, "\n") || !strings.Contains(e.Hint, c.hint) {
				t.Errorf("Build = %+v; want Broken with %q and hint %q", err, c.words, c.hint)
			}
			if !strings.Contains(progress.String(), c.alsoPrinted) {
				t.Errorf("printed %q", &progress)
			}
		})
	}
}

func TestReplacementInsideIsBuilt(t *testing.T) {
	src := source(t,
		"go.mod", module+"\nrequire example.com/sub v0.0.0\n\nreplace example.com/sub => ./sub\n",
		"main.go", "package main\n\nimport \"example.com/sub\"\n\nfunc main() { print(sub.Text) }\n",
		"sub/go.mod", "module example.com/sub\n\ngo 1.24\n", "sub/sub.go", "package sub\n\nconst Text = \"sub\"\n")
	if _, err := made(t, options(t), build.Request{Kind: "go"}, src, os.Stderr); err != nil {
		t.Error(err)
	}
}

func TestNoToolchain(t *testing.T) {
	o := options(t)
	o.Path = t.TempDir()
	_, err := made(t, o, build.Request{Kind: "go"}, source(t, "go.mod", module), io.Discard)
	if e, ok := err.(*lambent.Error); !ok || e.Kind != lambent.Unsupported || !strings.Contains(e.Hint, "go.dev/dl") {
		t.Errorf("Build = %v", err)
	}
	if _, err := made(t, o, build.Request{Kind: "make"}, source(t, "go.mod", module), io.Discard); !lambent.Is(err, lambent.Unsupported) {
		t.Errorf("kind make: %v", err)
	}
}

// A toolchain that hangs, with a child of its own, is ended with all of it.
func TestTimeLimit(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell")
	}
	bin, marks := t.TempDir(), t.TempDir()
	fake := "#!/bin/sh\n/bin/sh -c 'echo $$ >" + marks + "/child; exec /bin/sleep 1000' &\nwait\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	src := source(t, "go.mod", module)
	o := options(t)
	o.Path, o.Timeout = bin, 500*time.Millisecond
	start := time.Now()
	if _, err := made(t, o, build.Request{Kind: "go"}, src, io.Discard); !lambent.Is(err, lambent.Broken) || !strings.Contains(err.Error(), "too long") {
		t.Errorf("Build = %v", err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v: a child held the output open", took)
	}
	b, err := build.New(o)
	if err != nil {
		t.Fatal(err)
	}
	put, err := o.Trees.PutDirs(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Build(ctx, build.Request{Kind: "go", Source: put.Digest}, io.Discard); !lambent.Is(err, lambent.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// The toolchain sees none of this process's environment, and a flood of output
// is cut.
// What a compiler needs is up to the source, and bounded.
func TestGoMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems do not count it")
	}
	o := options(t)
	o.GoMemoryMB = 256
	table := strings.Repeat("1, ", 400_000)
	src := source(t, "go.mod", "module x\n\ngo 1.21\n", "main.go", "package main\n\nvar table = [...]any{"+table+"}\n\nfunc main() { println(len(table)) }\n")
	_, err := made(t, o, build.Request{Kind: "go"}, src, io.Discard)
	if !lambent.Is(err, lambent.Broken) || !strings.Contains(err.Error(), "go build needs more than the 256 MB of memory") {
		t.Errorf("Build = %v", err)
	}
}

func TestEnvironmentAndOutput(t *testing.T) {
	t.Setenv("LAMBENT_TOKEN", "hush")
	t.Setenv("GOFLAGS", "-toolexec=evil")
	bin := t.TempDir()
	fake := "#!/bin/sh\nenv >&2\nwhile :; do echo flood >&2 || exit 1; i=$((i+1)); [ $i -gt 60000 ] && exit 1; done\n"
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	o := options(t)
	o.Path = bin + ":/usr/bin:/bin"
	if _, err := made(t, o, build.Request{Kind: "go"}, source(t, "go.mod", module), &progress); !lambent.Is(err, lambent.Broken) {
		t.Errorf("Build = %v", err)
	}
	said := progress.String()
	if strings.Contains(said, "hush") || strings.Contains(said, "evil") || !strings.Contains(said, "CGO_ENABLED=0") {
		t.Errorf("the toolchain saw:\n%.2000s", said)
	}
	if len(said) > 300<<10 || !strings.Contains(said, "left out") {
		t.Errorf("%d bytes of output came through", len(said))
	}
}
