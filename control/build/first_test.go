package build_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/control/build"
	"lambent/guest/platformtest"
)

// rust gives a runtime Cargo and what it needs, where the users of sandboxes see it: who
// has it from rustup has it in a home directory.
func (y *yard) rust(t *testing.T, o *build.Options) lambent.Runtime {
	t.Helper()
	out, err := exec.Command("rustc", "--print", "sysroot").Output()
	if err != nil {
		platformtest.Missing(t, fmt.Sprintf("rustc: %v", err))
	}
	from, to := strings.TrimSpace(string(out)), filepath.Join(platformtest.PublicDir(t), "rust")
	err = filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, file)
		switch {
		case err != nil:
			return err
		case rel == "share" || rel == "etc" || rel == "libexec" || strings.HasSuffix(rel, "/src"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case d.Type().IsRegular() && os.Link(file, filepath.Join(to, rel)) == nil:
			return nil
		}
		text, err := os.ReadFile(file) // of another disk, or a link
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
	rt := y.runtimes[""]
	o.Path = filepath.Join(to, "bin")
	if strings.HasSuffix(t.Name(), "namespace") {
		rt.Packages, rt.PackagesAt, o.Path = to, lambent.PackagesInside, lambent.PackagesInside+"/bin"
	}
	return rt
}

// crates is a registry of one crate, which counts what it is asked.
func crates(t *testing.T, asked *atomic.Int32) *httptest.Server {
	var crate bytes.Buffer
	z := gzip.NewWriter(&crate)
	w := tar.NewWriter(z)
	for name, content := range map[string]string{"tiny-1.2.3/Cargo.toml": "[package]\nname = \"tiny\"\nversion = \"1.2.3\"\n", "tiny-1.2.3/src/lib.rs": "pub const X: u32 = 123;\n"} {
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
		_, _ = w.Write([]byte(content))
	}
	_ = w.Close()
	_ = z.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch r.URL.Path {
		case "/config.json":
			_ = json.NewEncoder(w).Encode(map[string]string{"dl": "http://" + r.Host})
		case "/ti/ny/tiny":
			fmt.Fprintf(w, `{"name":"tiny","vers":"1.2.3","deps":[],"cksum":"%x","features":{},"yanked":false}`, sha256.Sum256(crate.Bytes()))
		case "/tiny/1.2.3/download":
			_, _ = w.Write(crate.Bytes())
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

const tinyManifest = "[package]\nname = \"f\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\ntiny = { version = \"1\", registry = \"near\" }\n"

// What the manifests of a package ask for is fetched once, whatever its source, for the
// project that it was fetched for; and no build changes what the next one has.
func TestCargoOfARegistry(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		if !strings.HasSuffix(t.Name(), "process") {
			t.Skip("the registry is on the loopback, which no sandbox reaches")
		}
		var asked atomic.Int32
		o := y.options(t)
		o.Env = []string{"CARGO_REGISTRIES_NEAR_INDEX=sparse+" + crates(t, &asked).URL + "/"}
		rt := y.rust(t, &o)
		code := func(says string, more ...string) string {
			return source(t, append([]string{"Cargo.toml", tinyManifest, "src/main.rs", fmt.Sprintf("fn main() { print!(%q, tiny::X) }\n", says)}, more...)...)
		}
		build := func(r build.Request, src string) (dir, said string, fetched bool, err error) {
			t.Helper()
			asked.Store(0)
			var progress bytes.Buffer
			r.Kind, r.Runtime = "cargo", rt
			dir, err = made(t, o, r, src, &progress)
			return dir, progress.String(), asked.Load() > 0, err
		}
		says := func(want string, fetches bool) func(dir, said string, fetched bool, err error) {
			return func(dir, said string, fetched bool, err error) {
				t.Helper()
				if err != nil {
					t.Fatalf("%s: %v\n%s", want, err, said)
				}
				if out, err := exec.Command(filepath.Join(dir, "bootstrap")).CombinedOutput(); string(out) != want {
					t.Errorf("the program says %q, %v; want %q", out, err, want)
				}
				if fetched != fetches {
					t.Errorf("%s: the registry was asked: %v, want %v\n%s", want, fetched, fetches, said)
				}
			}
		}
		kept := func() int {
			t.Helper()
			files, err := os.ReadDir(filepath.Join(o.CacheDir, "installed"))
			if err != nil {
				t.Fatal(err)
			}
			return len(files)
		}
		env := o.Env
		o.Env = []string{"CARGO_REGISTRIES_NEAR_INDEX=sparse+http://127.0.0.1:9/", "CARGO_NET_RETRY=0"}
		if _, said, _, err := build(buildRequest("p"), code("a{}")); !lambent.Is(err, lambent.Broken) || kept() != 0 {
			t.Errorf("without a registry: %v, and %d are kept\n%s", err, kept(), said)
		}
		o.Env = env
		if _, said, fetched, err := build(buildRequest("p"), source(t, "Cargo.toml", tinyManifest, "src/main.rs", "fn main() { no }")); !lambent.Is(err, lambent.Broken) || !fetched || kept() != 1 {
			t.Errorf("what does not compile: %v, fetched: %v, %d are kept\n%s", err, fetched, kept(), said)
		}
		says("a123", false)(build(buildRequest("p"), code("a{}")))
		if kept() != 2 {
			t.Errorf("%d are kept, of a first stage and a build", kept())
		}
		// Without a lock file it is not for ever, nor is what was made of it.
		age := func(d time.Duration) {
			files, err := filepath.Glob(filepath.Join(o.CacheDir, "installed", "*"))
			for _, file := range files {
				err = errors.Join(err, os.Chtimes(file, time.Now().Add(-d), time.Now().Add(-d)))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		age(20 * time.Hour)
		says("x123", false)(build(buildRequest("p"), code("x{}")))
		young, err := filepath.Glob(filepath.Join(o.CacheDir, "installed", "*"))
		for _, file := range young {
			if info, err := os.Stat(file); err != nil || time.Since(info.ModTime()) < 19*time.Hour {
				t.Errorf("of what was fetched 20 hours ago something young was made: %v, %v", info.ModTime(), err)
			}
		}
		if err != nil || len(young) != 3 {
			t.Errorf("%v are kept, %v", young, err)
		}
		age(25 * time.Hour)
		says("y123", true)(build(buildRequest("p"), code("y{}")))
		// A build that spoils what it is given spoils its own. It does so once Cargo is done with
		// what it has compiled of that at the same time.
		says("b123", false)(build(buildRequest("p"), code("b{}", "build.rs", `fn main() {
			let done = std::path::PathBuf::from(std::env::var("OUT_DIR").unwrap() + "/../../../.fingerprint");
			for _ in 0..500 {
				if std::fs::read_dir(&done).unwrap().any(|unit| unit.unwrap().path().join("dep-lib-tiny").exists()) {
					break;
				}
				std::thread::sleep(std::time::Duration::from_millis(20));
			}
			let home = std::env::var("CARGO_HOME").unwrap();
			std::fs::write(home.clone() + "/Cargo.lock", "spoiled").unwrap();
			std::fs::remove_dir_all(home + "/registry").unwrap();
		}`)))
		says("c123", false)(build(buildRequest("p"), code("c{}")))
		says("d123", true)(build(buildRequest("other"), code("d{}")))
		fresh := buildRequest("p")
		fresh.Fresh = true
		says("e123", true)(build(fresh, code("e{}")))
		// Cargo goes by which programs there are, too.
		says("f123", true)(build(buildRequest("p"), code("f{}", "tests/t.rs", "")))
		// What the first stage cannot see, the build does without it.
		before := kept()
		out, said, _, err := build(buildRequest("p"), source(t, "Cargo.toml", tinyManifest+"near = { path = \"target/near\" }\n", "src/main.rs", "fn main() { near::say(tiny::X) }",
			"target/near/Cargo.toml", "[package]\nname = \"near\"\nversion = \"1.0.0\"\n", "target/near/src/lib.rs", "pub fn say(x: u32) { print!(\"g{}\", x) }"))
		says("g123", true)(out, said, true, err)
		if !strings.Contains(said, "cannot be done ahead of the build (cargo failed: ") || kept() != before+1 {
			t.Errorf("%d more are kept\n%s", kept()-before, said)
		}
	})
}

var gradleProject = []string{
	"build.gradle", `plugins { id 'java' }
repositories { mavenCentral() }
dependencies {
	compileOnly 'com.google.cloud.functions:functions-framework-api:1.1.4'
	runtime 'com.google.code.gson:gson:2.11.0'
}
`, "settings.gradle", "rootProject.name = 'f'\n", "src/main/java/F.java", "public class F { public static final String SAYS = \"WORD\"; }\n",
}

// What has been fetched from the registries of the world is enough for the source that
// comes next: it is built without a network.
func TestFirstStage(t *testing.T) {
	drivers(t, func(t *testing.T, y *yard) {
		if !strings.HasSuffix(t.Name(), "namespace") {
			t.Skip("the network of a process is the machine's")
		}
		o := y.options(t)
		o.Env, o.Timeout = nil, 9*time.Minute
		rust, java, pom := y.rust(t, &o), y.needs(t, "google-java"), read("../../examples/gcp-java-hello", "pom.xml")
		for name, c := range map[string]struct {
			kind       string
			rt         lambent.Runtime
			registries string
			source     string // with a word in it
			files      []string
			result     string
			says       string
		}{
			"cargo": {"cargo", rust, "index.crates.io:443,static.crates.io:443", "src/main.rs", []string{
				"Cargo.toml", "[package]\nname = \"f\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"1\"\n",
				"src/main.rs", "fn main() { println!(\"WORD {}\", itoa::Buffer::new().format(1)) }\n",
			}, "bootstrap", ""},
			"maven": {"maven", java, "repo.maven.apache.org:443", "src/main/java/F.java", []string{
				"pom.xml", pom, "src/main/java/F.java", "public class F { public static final String SAYS = \"WORD\"; }\n",
			}, "target/gcp-java-hello-1.0.jar", ""},
			"gradle": {"gradle", java, "repo.maven.apache.org:443", "src/main/java/F.java", append(gradleProject,
				"gradlew", "#!/bin/sh\necho of its own\nexec gradle \"$@\"\n",
			), "build/libs/f.jar", "of its own"},
			"gradle, the server's": {"gradle", java, "repo.maven.apache.org:443", "src/main/java/F.java", append(gradleProject,
				"gradlew", "#!/bin/sh\necho no route to it\nexit 1\n",
			), "build/libs/f.jar", "no route to it\ngradlew does not get the project's own Gradle: the server's is taken"},
			// A build that does not come to its end without the source.
			"maven, by its plugins": {"maven", java, "repo.maven.apache.org:443", "src/main/java/F.java", []string{
				"pom.xml", strings.Replace(pom, "</project>", `<build><plugins><plugin>
					<artifactId>maven-antrun-plugin</artifactId><version>3.1.0</version>
					<executions><execution><phase>compile</phase><goals><goal>run</goal></goals><configuration><target>
						<condition property="there"><available file="src/main/java/F.java"/></condition><fail unless="there"/>
					</target></configuration></execution></executions>
				</plugin></plugins></build></project>`, 1),
				"src/main/java/F.java", "public class F { public static final String SAYS = \"WORD\"; }\n",
			}, "target/gcp-java-hello-1.0.jar", ""},
		} {
			t.Run(name, func(t *testing.T) {
				if _, err := exec.LookPath("gradle"); c.kind == "gradle" && err != nil {
					platformtest.Missing(t, "no gradle: apt-get install gradle")
				}
				o := o
				conn, err := net.DialTimeout("tcp", strings.Split(c.registries, ",")[0], 5*time.Second)
				if err != nil {
					platformtest.Missing(t, err.Error())
				}
				conn.Close()
				for i, word := range []string{"one", "other"} {
					o.Network = lambent.Network{"none"}
					if i == 0 {
						o.Network, err = lambent.ParseNetwork("internet," + c.registries)
					}
					if err != nil {
						t.Fatal(err)
					}
					src := source(t, c.files...)
					text := strings.ReplaceAll(read(src, c.source), "WORD", word)
					if err := os.WriteFile(filepath.Join(src, c.source), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
					var progress bytes.Buffer
					r := buildRequest("p")
					r.Kind, r.Runtime = c.kind, c.rt
					begun := time.Now()
					out, err := made(t, o, r, src, &progress)
					if err != nil {
						t.Fatalf("%s: %v\n%s", word, err, &progress)
					}
					t.Logf("%s: %v", word, time.Since(begun))
					if _, err := os.Stat(filepath.Join(out, c.result)); err != nil {
						t.Error(err)
					}
					if there := strings.Contains(progress.String(), "there from an earlier build"); there != (i > 0) || !strings.Contains(progress.String(), c.says) {
						t.Errorf("%s:\n%s", word, &progress)
					}
				}
			})
		}
	})
}
