package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"lambent"
	"lambent/runtimes"
	"lambent/sandbox/namespace"
)

// A Finding is one thing that was looked at before a server is started.
type Finding struct {
	Area   string `json:"area"` // such as "runtime"
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	Mend   string `json:"mend,omitempty"` // the command that would mend it
}

// A State says how a finding bears on serving.
type State string

const (
	Good    State = "ok"
	Absent  State = "missing" // the server runs without it
	Failing State = "failing" // the server does not start
)

// Examine looks at what a server of that configuration would find on this
// machine. It changes nothing, and does not need the server to be stopped.
func Examine(ctx context.Context, cfg Config) []Finding {
	f := []Finding{{"system", "platform", Good, fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), ""}}
	f = append(f, hostFindings(cfg.Data)...)
	f = append(f, examineConfig(&cfg)...)
	f = append(f, examineDrivers(&cfg)...)
	return append(f, slices.Concat(examineRuntimes(ctx, &cfg), examineBuilds(ctx, &cfg))...)
}

// examineBuilds tells what deploys can install and compile.
func examineBuilds(ctx context.Context, cfg *Config) (out []Finding) {
	path := []string{"/usr/local/bin", "/usr/bin"} // all that sandboxes see
	if os.Geteuid() != 0 {
		path = append(path, filepath.SplitList(cfg.Path)...)
	}
	for _, t := range []struct{ name, mend string }{
		{"npm", "apt-get install npm"}, {"mvn", "apt-get install maven"}, {"gradle", "apt-get install gradle"}, {"cargo", "apt-get install cargo"},
	} {
		f := Finding{"build", t.name, Absent, "not found", t.mend}
		for _, dir := range path {
			if file, err := exec.LookPath(filepath.Join(dir, t.name)); err == nil {
				f.State, f.Detail, f.Mend = Good, file, ""
				break
			}
		}
		out = append(out, f)
	}
	found, _ := runtimes.Discover(ctx, runtimes.Options{Agents: "/", Path: filepath.SplitList(cfg.Path), Unprivileged: os.Geteuid() == 0})
	for _, r := range found {
		if family, _ := runtimes.Family(r.Name); family != "python" {
			continue
		}
		f := Finding{"build", "pip", Good, "of " + r.Boot[0], ""}
		if err := exec.CommandContext(ctx, r.Boot[0], "-I", "-c", "import pip").Run(); err != nil {
			f.State, f.Detail, f.Mend = Absent, r.Boot[0]+" has none", "apt-get install python3-pip"
		}
		out = append(out, f)
	}
	return out
}

// examineDrivers tries what isolates functions.
func examineDrivers(cfg *Config) []Finding {
	plain := Finding{"driver", driverProcess, Good, "no isolation beyond a user of its own for each sandbox, as root", ""}
	if os.Geteuid() != 0 {
		plain.Detail = "no isolation: functions run as this user, as you do"
	}
	f := Finding{"driver", driverNamespace, Good, "", ""}
	dir, err := os.MkdirTemp("", "lambent-doctor-")
	if err == nil {
		defer os.RemoveAll(dir)
		var d *namespace.Driver
		if d, err = namespace.New(namespace.Options{Dir: dir}); err == nil {
			f.Detail = d.Isolation()
			err = d.Close()
		}
	}
	if err != nil {
		f.State, f.Detail = Absent, err.Error()
		if runtime.GOOS == "linux" && os.Geteuid() != 0 {
			f.Mend = "sudo lambent serve"
		}
	}
	if cfg.Driver == driverNamespace && err != nil {
		f.State = Failing
	}
	return []Finding{plain, f}
}

func examineConfig(cfg *Config) []Finding {
	var out []Finding
	state := func(name, good string, err error) {
		f := Finding{"server", name, Good, good, ""}
		if e, ok := err.(*lambent.Error); ok {
			f.State, f.Detail, f.Mend = Failing, e.Message, e.Hint
		} else if err != nil {
			f.State, f.Detail = Failing, err.Error()
		}
		out = append(out, f)
	}
	if err := cfg.Validate(); err != nil {
		state("configuration", "", err)
		return out
	}
	l, err := listen(cfg.Listen)
	if err == nil {
		l.Close()
		state("address", cfg.Listen+" is free", nil)
	} else if c, dialErr := net.Dial("tcp", cfg.Listen); dialErr == nil {
		c.Close()
		out = append(out, Finding{"server", "address", Good, cfg.Listen + " is served, perhaps by lambent already", ""})
	} else {
		state("address", "", err)
	}
	switch info, err := os.Stat(cfg.Data); {
	case os.IsNotExist(err):
		out = append(out, Finding{"server", "data directory", Good, cfg.Data + " will be made", ""})
	case err != nil:
		state("data directory", "", err)
	case !info.IsDir():
		state("data directory", "", fmt.Errorf("%s is not a directory", cfg.Data))
	default:
		state("data directory", cfg.Data, prepareData(cfg.Data))
	}
	return out
}

// examineRuntimes tells what functions can run on, and what would bring more.
func examineRuntimes(ctx context.Context, cfg *Config) []Finding {
	path := filepath.SplitList(cfg.Path)
	found, missing := runtimes.Discover(ctx, runtimes.Options{Agents: "/", Path: path, Unprivileged: os.Geteuid() == 0})
	var out []Finding
	families := map[string]bool{}
	for _, r := range found {
		out = append(out, Finding{"runtime", r.Name, Good, r.Note, ""})
		families[strings.TrimRight(r.Name, ".x0123456789")] = true
	}
	type cause struct{ dir, why string }
	alike := map[cause]int{} // a version manager leaves many files that do not run
	for _, m := range missing {
		dir, name := filepath.Split(m.Path)
		if m.Name != "" {
			name = m.Name
		}
		c := cause{dir, strings.TrimPrefix(m.Why, m.Path)}
		if i, ok := alike[c]; ok {
			out[i].Name += ", " + name
			continue
		}
		alike[c] = len(out)
		out = append(out, Finding{"runtime", name, Absent, dir + "...: " + m.Why, ""})
	}
	for family, mend := range map[string]string{"nodejs": "apt-get install nodejs", "python": "apt-get install python3", "java": "apt-get install default-jre-headless"} {
		if !families[family] {
			out = append(out, Finding{"runtime", family, Absent, "no interpreter was found", mend})
		}
	}
	if file, err := exec.LookPath("go"); err == nil {
		out = append(out, Finding{"build", "go", Good, file + " builds functions from Go source", ""})
	} else {
		out = append(out, Finding{"build", "go", Absent, "functions cannot be built from Go source", "apt-get install golang-go"})
	}
	return out
}
