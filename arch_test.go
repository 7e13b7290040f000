package lambent_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A rule says what a package may import of ours beside the root, which everyone
// may. Patterns are of one level: sandbox/* is each package below sandbox.
type rule struct {
	pkg     string
	imports string
	tests   string // what its tests may import beyond that: real parts to run with
	why     string
}

// rules is the direction of the design: left may import right. A package without
// a row fails, so that a new one gets its place on purpose.
var rules = []rule{
	{".", "", "", "the vocabulary: everyone imports it, so it imports no one"},
	{"cmd/lambent", "server client bundle examples internal/detect internal/pattern internal/scaffold internal/sigv4 scale/replay", "runtimes/rootfstest", "one verb to a file; bundle packs what a directory is deployed as, before it is sent"},
	{"server", "api/* auth bucket bucket/gateway bundle client control control/build dispatch guest guest/* internal/* logs meter queue runtimes runtimes/rootfs sandbox sandbox/jail sandbox/names sandbox/namespace sandbox/process source source/* store trigger", "examples runtimes/rootfstest server/servertest",
		"the wiring: the only package that names implementations"},

	{"server/servertest", "server client", "", "a server in process for whoever tests with one"},

	{"api/v1", "auth control internal/intake internal/webhook logs meter trigger", "client server server/servertest", "our own API is a thin face over the core; it calls through lambent.Invoker, never dispatch"},
	{"api/aws", "auth control internal/* logs meter queue trigger", "client server server/servertest", "AWS's protocols over the core: who signs, what is meant, and in which words it is refused"},
	{"api/web", "internal/intake", "auth client server server/servertest", "function URLs need an Invoker and a way to resolve names, and nothing else of ours"},
	{"client", "", "server server/servertest", "what a user of the API may import without importing the platform"},

	{"control", "store", "", "knows functions as records; code, runtimes and builds are functions that server hands it"},
	{"control/build", "bundle sandbox", "guest/platformtest runtimes sandbox/names sandbox/namespace sandbox/process", "trees in, trees out, by toolchains and by sandboxes: it knows no function"},
	{"scale", "", "", "decides, and does nothing: it knows neither what an instance is nor what time it is"},
	{"scale/replay", "scale", "", "a recorded day through the decisions of scale; no instance is real"},
	{"dispatch", "scale sandbox guest", "sandbox/fake", "the synchronous path: with no store in reach, nothing durable can be on it"},
	{"auth", "internal/atomicfile", "", "keys in a file"},
	{"logs", "", "", "what functions write, in files of its own"},
	{"meter", "internal/atomicfile internal/jsonquote", "", "records in files of its own: the ledger is on the path of each call, the store is not"},
	{"bundle", "internal/atomicfile", "", "files by digest: it knows no function"},
	{"trigger", "store source internal/input internal/pattern", "", "everything asynchronous: it runs things by an Invoker, and knows no instance"},
	{"queue", "store", "", "users' queues over the log of work: it runs no function, and knows no protocol"},
	{"store", "internal/atomicfile", "", "records, and queues of work: it knows no function"},

	{"bucket", "source/object internal/sigv4", "bucket/gateway", "S3 as the server has it: it starts gateways and passes on; the source of events hears of changes by it"},
	{"bucket/gateway", "bucket source/object", "", "the process that keeps one project's buckets: it knows its server by a link"},

	{"source", "", "", "the contract of what watches the world"},
	{"source/databasetest", "source", "", "database servers for whoever tests with them, and what all sources of databases do"},
	{"source/broker", "source", "", "what sources of brokers have in common: it knows none of them"},
	{"source/brokertest", "source source/databasetest", "", "a suite knows the contract alone, and servers for whoever tests with them"},
	{"source/kafka", "source/broker", "source/brokertest source/databasetest", "a driver knows its broker, and not what becomes of messages"},
	{"source/mqtt", "source source/broker", "source/brokertest source/databasetest", "a driver knows its broker, and not what becomes of messages"},
	{"source/nats", "source/broker", "source/brokertest source/databasetest", "a driver knows its broker, and not what becomes of messages"},
	{"source/rabbitmq", "source/broker", "source/brokertest source/databasetest", "a driver knows its broker, and not what becomes of messages"},
	{"source/redis", "source/broker", "source/brokertest source/databasetest", "a driver knows its broker, and not what becomes of messages"},
	{"source/queue", "source queue", "store", "takes messages of users' queues"},
	{"source/*", "source internal/*", "source/databasetest", "a source knows its world and a sink: neither functions nor queues"},

	{"internal/rows", "internal/jsonquote", "", "a leaf as others, that writes JSON"},

	{"guest", "sandbox", "", "the contract with the code inside a sandbox"},
	{"guest/lambda", "guest sandbox internal/http1 internal/jsonquote", "runtimes guest/guesttest guest/platformtest", "a guest sees a sandbox through its contract, whatever the driver; its suite runs through real ones"},
	{"guest/gcf", "guest sandbox internal/http1 internal/preload", "dispatch guest/guesttest guest/platformtest runtimes", "as any guest; what runs there is a web server, and its tests are real ones"},
	{"guest/platformtest", "dispatch guest guest/gcf guest/lambda guest/guesttest internal/preload runtimes sandbox sandbox/namespace sandbox/process", "", "the synchronous path around a guest, for its tests: real parts without a server"},
	{"guest/guesttest", "", "", "a suite speaks to a guest as callers do: by Invoker"},
	{"sandbox", "", "", "the contract of drivers: data and descriptors only, so that a helper process can stand behind it"},
	{"sandbox/sandboxtest", "sandbox", "", "a suite knows the contract alone"},
	{"sandbox/jail", "sandbox internal/*", "sandbox/sandboxtest sandbox/namespace sandbox/fake", "the driver of two processes: it serves any driver, and its suite a real one"},
	{"sandbox/names", "sandbox", "sandbox/jail sandbox/namespace", "a driver around another: it knows by what abilities sandboxes ask for names, and not whose they are"},
	{"sandbox/namespace", "sandbox internal/*", "sandbox/sandboxtest scale", "as any driver; that weights divide the processors as scale says only the kernel can tell"},
	{"sandbox/*", "sandbox internal/*", "sandbox/sandboxtest", "a driver knows the contract, and no other driver"},
	{"runtimes", "", "", "agents and interpreters are data to everyone else"},
	{"runtimes/rootfs", "runtimes sandbox internal/atomicfile internal/preload", "runtimes/rootfstest sandbox/namespace sandbox/process", "files that interpreters are in, and sandboxes to ask them what they are: it knows no function"},
	{"runtimes/rootfstest", "", "", "images for whoever tests with them"},

	{"internal/sigv2", "internal/sigv4", "", "another form of the same, refused in the same words"},
	{"internal/detect", "internal/input internal/pattern", "", "what a file of settings says is judged where its lines are known"},
	{"internal/netns", "", "sandbox/names", "a leaf as others; its tests ask for names as functions do, and somebody has to answer"},
	{"internal/*", "", "", "leaves: each one job that knows nothing of the platform but its vocabulary"},
	{"examples", "", "server client server/servertest source/databasetest", "functions as users write them; the tests run each on a server"},
	{"bench", "client", "test/daemon runtimes sandbox sandbox/namespace source/databasetest", "measures from outside, as a client; and sandboxes alone, by their driver"},
	{"test", "client test/daemon test/workload source/databasetest source/brokertest", "", "the whole program from outside: with nothing but a client in reach, a test cannot cheat"},
	{"test/vm", "", "test/machine", "runs the tests of packages that it knows by name alone"},
	{"test/power", "", "test/machine test/workload", "the same from outside a machine"},
	{"test/power/inside", "client test/workload", "", "what is inside that"},
	{"test/workload/recorder", "", "", "a function as users write them"},
	{"test/machine/init", "test/machine", "", "the first program in it"},
	{"test/*", "client", "", "the program as a process, for tests"},
}

// modules is every module that the product's code may import, and who may: what
// one costs and does for us is in RATIONALE.md.
var modules = []rule{
	{"github.com/nats-io", "store source/nats source/brokertest", "", "the engine, which nothing but the store may know; and a client of others'"},
	{"github.com/danielgtaylor/huma", "api/v1", "", "REST and its OpenAPI document"},
	{"github.com/hashicorp/cronexpr", "source/cron", "", "when an expression is due next"},
	{"github.com/versity/versitygw", "bucket/gateway", "", "S3 over files"},
	{"github.com/gofiber/fiber", "bucket/gateway", "", "what versitygw's requests are"},
	{"github.com/aws/aws-sdk-go-v2", "bucket/gateway test/workload", "", "S3's words, as versitygw has them; its clients only in tests"},
	{"github.com/aws/aws-lambda-go", "test/workload/recorder", "", "AWS's own client in Go, for what only tests run"},
	{"github.com/go-mysql-org/go-mysql", "source/mysql source/databasetest", "", "MySQL's protocol, and its log"},
	{"golang.org/x/text", "source/mysql", "", "MySQL's character sets"},
	{"github.com/jackc/pgx", "source/postgres source/databasetest", "", "PostgreSQL"},
	{"github.com/eclipse/paho.golang", "source/mqtt source/brokertest", "", "MQTT 5"},
	{"github.com/twmb/franz-go", "source/kafka source/brokertest", "", "Kafka"},
	{"github.com/rabbitmq/amqp091-go", "source/rabbitmq source/brokertest", "", "RabbitMQ"},
	{"github.com/gomodule/redigo", "source/redis source/brokertest", "", "Redis"},
	{"github.com/jackc/pglogrepl", "source/postgres", "", "PostgreSQL's protocol of replication"},
	{"github.com/prometheus/client_golang", "internal/telemetry", "", "metrics"},
	{"github.com/shopspring/decimal", "meter", "", "money"},
	{"github.com/klauspost/compress", "bundle runtimes/rootfs source/mysql", "", "deflate; gzip and zstd of layers; zstd of MySQL's log"},
	{"github.com/google/go-containerregistry", "runtimes/rootfs*", "", "images in registries"},
	{"github.com/BurntSushi/toml", "internal/detect", "", "lambent.toml"},
	{"github.com/spf13/cobra", "cmd/lambent", "", "the command line"},
	{"go.yaml.in/yaml", "cmd/lambent", "", "-o yaml"},
	{"golang.org/x/term", "cmd/lambent", "", "is this a terminal?"},
	{"github.com/vishvananda/netlink", "internal/netns test/daemon", "", "the kernel's network: links, addresses, routes"},
	{"github.com/google/nftables", "internal/netns test/daemon", "", "the kernel's packet filter"},
	{"github.com/elastic/go-seccomp-bpf", "sandbox/namespace", "", "the system call filter, from names to the kernel's instructions"},
	{"golang.org/x/net/bpf", "sandbox/namespace", "", "those instructions as bytes"},
	{"golang.org/x/net/netutil", "server", "", "a bound on connections"},
	{"golang.org/x/sync/semaphore", "server api/aws", "", "a bound on memory"},
	{"golang.org/x/net/dns/dnsmessage", "sandbox/names", "", "the names that functions ask for"},
	{"golang.org/x/sys", "sandbox/* runtimes/rootfs server bucket/gateway internal/* test/daemon test/machine/init test/power/inside", "", "system calls that the standard library lacks"},
}

// readsEnvironment are the packages that may read the environment: main, which
// hands it to what configures a server, and what only tests import.
var readsEnvironment = "cmd/lambent */*test test/* test/machine/init test/workload/recorder"

// TestImports holds the code to rules and modules. Tests are held to what their
// package may import and the row's further column; test-only modules are free.
func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		r, ok := rowOf(rules, p.name)
		if !ok {
			t.Errorf("%s has no row in rules: say what it may import, and why", p.name)
			continue
		}
		for _, path := range p.Imports {
			if ours, ok := own(path); ok {
				if !matches(r.imports, ours) {
					t.Errorf("%s imports %s; it may import %q: %s", p.name, ours, r.imports, r.why)
				}
			} else if strings.Contains(strings.Split(path, "/")[0], ".") {
				checkModule(t, p.name, path)
			}
		}
		for _, path := range append(p.TestImports, p.XTestImports...) {
			if ours, ok := own(path); ok && ours != p.name && !matches(r.imports+" "+r.tests, ours) {
				t.Errorf("the tests of %s import %s; they may import %q and %q: %s", p.name, ours, r.imports, r.tests, r.why)
			}
		}
	}
}

// TestJailParsesNothing: what the process imports that keeps root's rights, and
// what that imports in its turn, reads nothing that strangers, functions or name
// servers write.
func TestJailParsesNothing(t *testing.T) {
	deps := strings.Fields(string(goCommand(t, "list", "-deps", "./sandbox/jail", "./sandbox/namespace", "./runtimes")))
	for _, reads := range []string{"net/http", "archive/tar", "archive/zip", "golang.org/x/net/dns/dnsmessage", "lambent/sandbox/names", "lambent/internal/http1"} {
		if slices.Contains(deps, reads) {
			t.Errorf("the jail imports %s: it belongs into the other half of the server", reads)
		}
	}
}

func checkModule(t *testing.T, pkg, path string) {
	t.Helper()
	for _, m := range modules {
		if path == m.pkg || strings.HasPrefix(path, m.pkg+"/") {
			if !matches(m.imports, pkg) {
				t.Errorf("%s imports %s, which is for %s: %s", pkg, path, m.imports, m.why)
			}
			return
		}
	}
	t.Errorf("%s imports %s, which is not among modules: a new module is a decision, with a line in RATIONALE.md", pkg, path)
}

// TestRulesAreUsed fails for a row that no package needs any more; rows of what
// is still to come are those with a directory that is not there.
func TestRulesAreUsed(t *testing.T) {
	all := packages(t)
	for _, r := range rules {
		dir, _, _ := strings.Cut(r.pkg, "*")
		if _, err := os.Stat(filepath.FromSlash(dir)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if !slices.ContainsFunc(all, func(p goPackage) bool { return matches(r.pkg, p.name) }) {
			t.Errorf("no package is %s", r.pkg)
		}
	}
}

// TestPackageComments: the comment says what the package is for.
func TestPackageComments(t *testing.T) {
	for _, p := range packages(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + path.Base(p.name) + " "
		}
		doc := p.Doc
		if len(p.GoFiles) == 0 { // tests alone
			doc = testDoc(t, p)
		}
		if !strings.HasPrefix(doc, want) {
			t.Errorf("%s: the package comment starts %.40q, not %q", p.name, doc, want)
		}
	}
}

// TestExitAndEnvironment: only main ends the process, and only main reads the
// environment. Everyone else is given what they need and returns errors.
func TestExitAndEnvironment(t *testing.T) {
	exits := map[string]bool{"os.Exit": true, "log.Fatal": true, "log.Fatalf": true, "log.Fatalln": true, "syscall.Exit": true}
	environment := map[string]bool{"os.Getenv": true, "os.LookupEnv": true, "os.Environ": true, "os.ExpandEnv": true, "os.Setenv": true,
		"os.Unsetenv": true, "os.Clearenv": true, "syscall.Getenv": true, "syscall.Environ": true}
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			file := filepath.Join(p.Dir, name)
			fset := token.NewFileSet()
			parsed, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := sel.X.(*ast.Ident)
				if !ok {
					return true
				}
				switch use := x.Name + "." + sel.Sel.Name; {
				case exits[use] && p.Name != "main":
					t.Errorf("%s: %s outside package main: return an error", fset.Position(n.Pos()), use)
				case environment[use] && !matches(readsEnvironment, p.name):
					t.Errorf("%s: %s outside of %s: take it as an option", fset.Position(n.Pos()), use, readsEnvironment)
				}
				return true
			})
		}
	}
}

// TestNoMachinesPaths: nothing in the tree names a place on the machine of
// somebody who worked on it.
func TestNoMachinesPaths(t *testing.T) {
	patterns := `/(home|Users)/[a-z][\w.-]*/|/root/[\w.]`
	if here, err := os.Getwd(); err == nil && strings.Count(here, "/") > 1 {
		patterns += `|` + regexp.QuoteMeta(here) + `\b`
	}
	place := regexp.MustCompile(`(^|[\s"'(=:])(` + patterns + `)`)
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", ".venv", "bin", "dist", "node_modules", "__pycache__"}, d.Name()):
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(file)
		if err != nil || bytes.IndexByte(b, 0) >= 0 {
			return err
		}
		for i, line := range bytes.Split(b, []byte("\n")) {
			if m := place.FindSubmatch(line); m != nil {
				t.Errorf("%s:%d names %s", file, i+1, m[2])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestModulesAreDecided: each module that go.mod asks for by itself has its line
// in RATIONALE.md.
func TestModulesAreDecided(t *testing.T) {
	b, err := os.ReadFile("RATIONALE.md")
	if err != nil {
		t.Fatal(err)
	}
	out := goCommand(t, "mod", "edit", "-json")
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	for _, m := range mod.Require {
		if !m.Indirect && !strings.Contains(string(b), "`"+m.Path+"`") {
			t.Errorf("RATIONALE.md does not say what %s does for us and what it costs", m.Path)
		}
	}
}

// A goPackage is what `go list` says of one.
type goPackage struct {
	name                               string // below the module; "." is the root
	Dir, Name, ImportPath, Doc         string
	GoFiles                            []string
	TestGoFiles, XTestGoFiles          []string
	Imports, TestImports, XTestImports []string
}

// packages lists every package of the module, as another test may have done.
func packages(t *testing.T) []goPackage {
	t.Helper()
	all, err := listed()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var listed = sync.OnceValues(func() ([]goPackage, error) {
	all := map[string]goPackage{}
	// Files and imports are those of one system: look at both.
	for _, system := range []string{"linux", "darwin"} {
		cmd := exec.Command("go", "list", "-json", "./...")
		cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, err
		}
		for d := json.NewDecoder(bytes.NewReader(out)); ; {
			var p goPackage
			if err := d.Decode(&p); err == io.EOF {
				break
			} else if err != nil {
				return nil, err
			}
			p.name, _ = own(p.ImportPath)
			if q, ok := all[p.name]; ok {
				p.GoFiles = append(p.GoFiles, q.GoFiles...)
				p.Imports = append(p.Imports, q.Imports...)
				p.TestImports = append(p.TestImports, q.TestImports...)
				p.XTestImports = append(p.XTestImports, q.XTestImports...)
			}
			all[p.name] = p
		}
	}
	var list []goPackage
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p := all[name]
		for _, names := range []*[]string{&p.GoFiles, &p.Imports, &p.TestImports, &p.XTestImports} {
			slices.Sort(*names)
			*names = slices.Compact(*names)
		}
		list = append(list, p)
	}
	return list, nil
})

// own returns the package below the module for an import path of ours.
func own(path string) (string, bool) {
	if path == "lambent" {
		return ".", true
	}
	return strings.CutPrefix(path, "lambent/")
}

// rowOf returns the row of a package: an exact one, or the first pattern.
func rowOf(rows []rule, pkg string) (rule, bool) {
	for _, r := range rows {
		if r.pkg == pkg {
			return r, true
		}
	}
	for _, r := range rows {
		if matches(r.pkg, pkg) {
			return r, true
		}
	}
	return rule{}, false
}

// matches says whether a package is one of a list of patterns. The root always is.
func matches(patterns, pkg string) bool {
	if pkg == "." {
		return true
	}
	return slices.ContainsFunc(strings.Fields(patterns), func(pattern string) bool {
		ok, err := path.Match(pattern, pkg)
		return ok && err == nil
	})
}

// testDoc returns the comment of a package that consists of tests.
func testDoc(t *testing.T, p goPackage) string {
	t.Helper()
	for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Fatal(err)
		}
		if f.Doc != nil {
			return f.Doc.Text()
		}
	}
	return ""
}

func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return out
}
