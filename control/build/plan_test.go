package build

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"lambent"
)

// said is a plan in one word: what the build sees, and whether that says all versions.
func said(p plan, err error) string {
	var e *lambent.Error
	switch {
	case errors.As(err, &e):
		return "refused"
	case p.sees == nil && p.locked:
		return "all, locked"
	case p.sees == nil:
		return "all"
	case p.locked:
		return strings.Join(p.sees, " ") + ", locked"
	}
	return strings.Join(p.sees, " ")
}

func TestRequirements(t *testing.T) {
	const named = "requirements.txt"
	for text, want := range map[string]string{
		"flask":          named,
		"flask==3.0.0\n": named, // what it brings is not said
		"requests[security] >= 2 ; python_version < '3.8'\n":               named,
		"x @ https://github.com/o/r/archive/refs/heads/main.zip\n":         named,
		"x @ git+https://github.com/o/r@main\n":                            named,
		"flask==${V}\n":                                                    named,
		"flask==3.0.0 --hash=sha256:aa # c\n":                              named + ", locked",
		"flask==3.0.0 \\\r\n    --hash=sha256:aa \\\n --hash=sha256:b\r\n": named + ", locked",
		"\ufeffflask==3\n":                                                 named,
		"# see \\\n-r other.txt\n":                                         "all",
		"-e .\n":                                                           "all",
		"./pkg\n":                                                          "all",
		"--index-url https://x/\nflask\n":                                  "all",
		"vendor-1.0.tar.gz\n":                                              "all",
		"x.zip\n":                                                          "all",
		"mylib-1.0-py3-none-any.whl ; python_version > '3'":                "all",
		"x @ file:///tmp/x\n":                                              "all",
		"flask \\":                                                         "all",
	} {
		p, err := readRequirements(fstest.MapFS{"requirements.txt": {Data: []byte(text)}})
		if got := said(p, err); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestPackage(t *testing.T) {
	const named = "package.json"
	for text, want := range map[string]string{
		`{"dependencies":{"a":"1"}}`:                         named,
		"\ufeff{}":                                           named,
		`{"dependencies":[]}`:                                named,
		`{"dependencies":{"a":null}}`:                        named,
		`{"scripts":{"x":1}}`:                                named,
		`{"workspaces":null}`:                                named,
		`{"dependencies":{"a":"o/r"}}`:                       named,
		`{"dependencies":{"a":"npm:b@1"}}`:                   named,
		`{"dependencies":{"a":"https://example.com/a.tgz"}}`: named,
		`{"dependencies":{"a":"file:./a"}}`:                  "all",
		`{"devDependencies":{"a":"file:./a"}}`:               "all",
		`{"overrides":{"a":"file:./a"}}`:                     "all",
		`{"dependencies":{"a":"./a"}}`:                       "all",
		`{"dependencies":{"a":"foo.tgz"}}`:                   "all",
		`{"dependencies":{"a":"vendor/foo.tar.gz"}}`:         "all",
		`{"workspaces":["p/*"]}`:                             "all",
		`{"scripts":{"postinstall":"node x.js"}}`:            "all",
		`{"scripts":{"gcp-build":"tsc"}}`:                    "all",
		`{"pnpm":{"patchedDependencies":{"a":"p.patch"}}}`:   "all",
		`{`: "refused",
	} {
		p, err := readPackage(fstest.MapFS{"package.json": {Data: []byte(text)}})
		if got := said(p, err); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	for name, want := range map[string]string{
		"package-lock.json": "package.json package-lock.json, locked", ".npmrc": "package.json .npmrc", "binding.gyp": "all", ".yarn/x": "all",
	} {
		p, err := readPackage(fstest.MapFS{"package.json": {Data: []byte("{}")}, name: {}})
		if got := said(p, err); got != want {
			t.Errorf("with %s: %s, want %s", name, got, want)
		}
	}
	large := fstest.MapFS{"package.json": {Data: []byte("{}")}, "yarn.lock": {Data: make([]byte, maxManifest+1)}}
	if _, err := readPackage(manifests{large}); !lambent.Is(err, lambent.Broken) || !strings.Contains(err.Error(), "yarn.lock is 16 MB") {
		t.Errorf("a large one: %v", err)
	}
}

// The first stage sees what says which packages there are, and is told of what these name;
// where packages lie in the project there is none.
func TestFirst(t *testing.T) {
	const locked = "Cargo.lock Cargo.toml rust-toolchain.toml sub/Cargo.toml; src/main.rs sub/src/bin/a/main.rs sub/src/lib.rs sub/tests/t.rs"
	for name, c := range map[string]struct {
		read  func(fs.FS) (plan, error)
		files []string // name, content...
		want  string
	}{
		"cargo":            {readCargo, []string{"Cargo.toml", "", "src/main.rs", "", "src/more.rs", "", "build.rs", ""}, "Cargo.toml; src/main.rs"},
		"cargo, a config":  {readCargo, []string{"Cargo.toml", "", ".cargo/config.toml", "[net]", ".cargo/x", ""}, ".cargo/config.toml Cargo.toml; "},
		"cargo, built":     {readCargo, []string{"Cargo.toml", "", "target/package/x/Cargo.toml", "", ".git/Cargo.toml", ""}, "Cargo.toml; "},
		"cargo, vendored":  {readCargo, []string{"Cargo.toml", "", ".cargo/config.toml", "[source.v]\ndirectory = \"vendor\""}, "none"},
		"cargo, a file":    {readCargo, []string{"Cargo.toml", `a = { git = "file:///a" }`}, "none"},
		"cargo, workspace": {readCargo, []string{"Cargo.toml", "", "Cargo.lock", "", "rust-toolchain.toml", "", "sub/Cargo.toml", "", "src/main.rs", "", "sub/src/lib.rs", "", "sub/src/bin/a/main.rs", "", "sub/src/bin/a/b.rs", "", "sub/tests/t.rs", ""}, locked},
		"maven":            {readMaven, []string{"pom.xml", "", ".mvn/maven.config", "", "src/main/java/A.java", "", "sub/pom.xml", "", "sub/.mvn/x", ""}, ".mvn/maven.config pom.xml sub/pom.xml; "},
		"gradle": {readGradle, []string{"build.gradle", "", "settings.gradle.kts", "", "gradlew", "", "gradle/wrapper/gradle-wrapper.jar", "", "gradle/libs.versions.toml", "", "sub/build.gradle.kts", "", "gradle.properties", "", "gradle.lockfile", "", "src/main/java/A.java", "", "buildSrc/src/main/groovy/a.groovy", ""},
			"build.gradle buildSrc/src/main/groovy/a.groovy gradle/libs.versions.toml gradle/wrapper/gradle-wrapper.jar gradle.lockfile gradle.properties gradlew settings.gradle.kts sub/build.gradle.kts; "},
		"gradle, jars":    {readGradle, []string{"build.gradle.kts", "implementation(fileTree(\"lib\"))"}, "none"},
		"maven, a jar":    {readMaven, []string{"pom.xml", "<systemPath>${basedir}/a.jar</systemPath>"}, "none"},
		"maven, a folder": {readMaven, []string{"pom.xml", "<url>file://${basedir}/repo</url>"}, "none"},
	} {
		src := fstest.MapFS{}
		for i := 0; i < len(c.files); i += 2 {
			src[c.files[i]] = &fstest.MapFile{Data: []byte(c.files[i+1])}
		}
		p, err := c.read(manifests{src})
		if err != nil || !p.all || p.sees != nil {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
		got := "none"
		if p.first != nil {
			got = strings.Join(p.first.sees, " ") + "; " + strings.Join(p.first.empty, " ")
			if !p.first.fetch || p.first.locked != p.locked || p.first.all {
				t.Errorf("%s: %+v", name, p.first)
			}
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	large := fstest.MapFS{"pom.xml": {}, ".mvn/large.jar": {Data: make([]byte, maxManifest+1)}}
	if p, err := readMaven(manifests{large}); err != nil || p.first != nil {
		t.Errorf("a large file: %+v, %v", p.first, err)
	}
	many := fstest.MapFS{"Cargo.toml": {}}
	for i := range maxFirst {
		many[fmt.Sprintf("vendor/%d/Cargo.toml", i)] = &fstest.MapFile{}
	}
	if p, err := readCargo(manifests{many}); err != nil || p.first != nil {
		t.Errorf("a registry in the project: %+v, %v", p.first, err)
	}
}

// What a sandbox answers with leads nowhere, makes nothing that is not counted, and
// nothing that could not be removed.
func TestUntar(t *testing.T) {
	file := func(name string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: 1}
	}
	dir := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o700} }
	link := func(kind byte, name, to string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: kind, Linkname: to}
	}
	deep := []*tar.Header{}
	for n := 1; n < 200; n++ {
		deep = append(deep, dir(strings.TrimSuffix(strings.Repeat("a/", n), "/")))
	}
	for name, c := range map[string]struct {
		entries []*tar.Header
		kind    lambent.Kind
	}{
		"as tar writes it":     {[]*tar.Header{dir("./"), dir("./a/"), file("./a/f"), link(tar.TypeSymlink, "./l", "a/f"), link(tar.TypeLink, "./h", "./a/f")}, 0},
		"out":                  {[]*tar.Header{file("../f")}, lambent.Broken},
		"in a directory twice": {[]*tar.Header{dir("a"), dir("a"), file("a/f")}, 0},
		"no directory":         {[]*tar.Header{file("a/f")}, lambent.Broken},
		"deep, not said":       {[]*tar.Header{{Name: strings.Repeat("a/", 25000) + "f", Typeflag: tar.TypeReg, Format: tar.FormatPAX}}, lambent.Broken},
		"deep":                 {deep, lambent.Broken},
		"twice":                {[]*tar.Header{file("f"), file("f")}, lambent.Broken},
		"through a link":       {[]*tar.Header{link(tar.TypeSymlink, "l", "/tmp"), file("l/lambent-untar")}, lambent.Broken},
		"a link to elsewhere":  {[]*tar.Header{link(tar.TypeLink, "h", "../../etc/passwd")}, lambent.Broken},
		"a device":             {[]*tar.Header{{Name: "d", Typeflag: tar.TypeChar}}, lambent.Broken},
		"many":                 {[]*tar.Header{file("1"), file("2"), file("3"), file("4"), file("5"), file("6"), file("7"), file("8"), dir("9"), file("10"), file("11")}, lambent.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range c.entries {
				if err := w.WriteHeader(h); err != nil {
					t.Fatal(err)
				}
				if h.Size > 0 {
					_, _ = w.Write([]byte("x"))
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			files := 10
			if strings.HasPrefix(name, "deep") {
				files = 1000
			}
			at := filepath.Join(t.TempDir(), "result")
			err := untar(t.Context(), bytes.NewReader(b.Bytes()), at, 1<<20, files)
			if c.kind == 0 && err != nil || c.kind != 0 && !lambent.Is(err, c.kind) {
				t.Errorf("untar = %v, want %v", err, c.kind)
			}
			if err := os.RemoveAll(at); err != nil {
				t.Error(err)
			}
		})
	}
}

// An archive that ends between two entries looks whole, and is not.
func TestCutOff(t *testing.T) {
	for text, ok := range map[string]bool{"": false, "short": false, "archive": false, "archive" + whole: true, whole + "\n": false, "archive" + whole[:3]: false} {
		f, err := os.Create(filepath.Join(t.TempDir(), "answer.tar"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := checkWhole(f); (err == nil) != ok || err != nil && !lambent.Is(err, lambent.Broken) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Builds that make room at the same time are not in each other's way.
func TestTrim(t *testing.T) {
	for range 50 {
		c := &cache{t.TempDir()}
		put := func(name string, age time.Duration, size int) {
			file := filepath.Join(c.dir, name)
			at := time.Now().Add(-age)
			if err := errors.Join(os.WriteFile(file, make([]byte, size), 0o600), os.Chtimes(file, at, at)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 50 {
			put(fmt.Sprint("old", i), 2*cacheFor, 0)
		}
		put("young", 0, 10)
		put("older", time.Hour, 10)
		put("oldest", 2*time.Hour, 10)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := c.trim(20, time.Now().Add(-cacheFor)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		left, err := os.ReadDir(c.dir)
		if err != nil || len(left) != 2 || left[0].Name() != "older" || left[1].Name() != "young" {
			t.Fatalf("left: %v, %v", left, err)
		}
	}
}
