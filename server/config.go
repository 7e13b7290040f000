package server

import (
	"cmp"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lambent"
)

// A Config is everything that an operator decides about a server. Start from
// [DefaultConfig].
type Config struct {
	Listen string // address of the one port
	Data   string // data directory
	Driver string // "auto", "namespace" or "process"

	KeepAlive    *time.Duration // of idle instances, where a function does not say; nil: as long as each is worth its memory
	Grace        time.Duration  // that calls under way have at shutdown
	MaxInstances int
	MemoryMB     int           // that functions may be promised together; 0: what the machine can spare
	Parked       int           // sandboxes of each runtime that wait for cold starts
	MaxQueue     int           // calls that wait, for each function
	MaxStarts    int           // instances of one function that start per second; ten times as many at once, after a pause
	StallTimeout time.Duration // that a client may take nothing of its answer
	KeepDead     time.Duration // that dead letters are kept
	MaxDead      int           // dead letters of one function, or of a trigger's in order
	WarnLogMB    int           // of its log that a PostgreSQL keeps for a trigger, over which that is warned of
	KeepEvents   time.Duration // that events are kept to be replayed, while they are 1 GB at most

	Gateway []string // the command that keeps the buckets of a project, with their directory behind it: see Gateway

	Hosts    []string // names, beside localhost and Listen's, that clients may call the server by
	Insecure bool     // allow plain HTTP on an address that others can reach
	TLSCert  string   // PEM files; both or none
	TLSKey   string

	Path                        string // PATH: where interpreters and toolchains are looked for
	GoProxy, GoSumDB, GoNoSumDB string // GOPROXY, GOSUMDB, GONOSUMDB of builds; empty: the toolchain's own defaults
	GoCache, GoModCache         string // of builds; empty: in the data directory (see build.Options)

	MaxRootMB    int      // of one runtime that is added, unpacked
	InstallerEnv []string // of pip and npm, which runtime add has install packages
	BuildEnv     []string // of builds, which any of the server's users may read
	NPMRegistry  string   // that Node.js comes from; empty: the public one

	// User is who a server runs as that was started as root, once another process
	// makes its sandboxes: empty is lambent, where there is one; see Divide.
	User string

	// What Divide has prepared.
	jail     *os.File
	listener net.Listener

	// OwnProgram says that this server is all that the program does: then it decides
	// how many processors the program uses.
	OwnProgram bool
	// OwnGarbage says that it decides then how much garbage may pile up, too.
	OwnGarbage bool

	Version string       // of the program
	Logger  *slog.Logger // nil: nowhere
}

// DefaultListen is where a server listens, and clients look for one.
const DefaultListen = "127.0.0.1:9700"

// DefaultConfig returns the defaults, with what the environment says. getenv is
// os.Getenv, or a test's; nothing in the server asks the environment again.
func DefaultConfig(getenv func(string) string) Config {
	return Config{
		Listen: DefaultListen, Data: DefaultData(getenv), Driver: driverAuto,
		Grace: 30 * time.Second, MaxInstances: 1000, Parked: defaultParked, MaxQueue: 1000, MaxStarts: 100, StallTimeout: 30 * time.Second, KeepDead: 14 * 24 * time.Hour, MaxDead: 10_000, WarnLogMB: 1024, KeepEvents: 7 * 24 * time.Hour,
		Path: getenv("PATH"), GoProxy: getenv("GOPROXY"), GoSumDB: getenv("GOSUMDB"), GoNoSumDB: getenv("GONOSUMDB"),
		GoCache: getenv("LAMBENT_GOCACHE"), GoModCache: getenv("LAMBENT_GOMODCACHE"),
		Gateway:   []string{self(), "gateway"},
		MaxRootMB: 4096, InstallerEnv: installerEnv(getenv), BuildEnv: buildEnv(getenv), NPMRegistry: cmp.Or(getenv("NPM_CONFIG_REGISTRY"), getenv("npm_config_registry")),
		Version: "dev",
	}
}

// self is this program.
func self() string {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return "/proc/self/exe" // be there another one in its place meanwhile
	}
	name, _ := os.Executable() // its failure is that of whoever runs it
	return name
}

// installerEnv is what pip and npm see of the environment: where they find their
// registries.
func installerEnv(getenv func(string) string) (env []string) {
	for _, name := range []string{
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_TRUSTED_HOST", "PIP_CERT", "PIP_DEFAULT_TIMEOUT",
		"NPM_CONFIG_REGISTRY", "npm_config_registry", "NODE_EXTRA_CA_CERTS",
	} {
		if v := getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// buildEnv is what builds see of the environment: where packages come from, unless that
// has a password in it, and what LAMBENT_BUILD_ENV names, separated by commas, such as
// HTTPS_PROXY. What is there every function's owner can read and use.
func buildEnv(getenv func(string) string) (env []string) {
	for _, name := range []string{
		"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_TRUSTED_HOST", "PIP_CERT", "PIP_DEFAULT_TIMEOUT",
		"NPM_CONFIG_REGISTRY", "npm_config_registry", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
	} {
		if v := getenv(name); v != "" && !strings.Contains(v, "@") {
			env = append(env, name+"="+v)
		}
	}
	for name := range strings.SplitSeq(getenv("LAMBENT_BUILD_ENV"), ",") {
		if name = strings.TrimSpace(name); name != "" && getenv(name) != "" {
			env = append(env, name+"="+getenv(name))
		}
	}
	return env
}

// DefaultData returns the data directory of whoever names none: LAMBENT_DATA, or
// "lambent" in the XDG state directory, which for root is /var/lib: functions run
// under other users and must be able to reach their code.
func DefaultData(getenv func(string) string) string {
	if d := getenv("LAMBENT_DATA"); d != "" {
		return d
	}
	if d := getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "lambent")
	}
	if os.Geteuid() == 0 {
		return "/var/lib/lambent"
	}
	home := getenv("HOME")
	if home == "" {
		home = os.TempDir()
	}
	return filepath.Join(home, ".local", "state", "lambent")
}

// Validate checks every field; the error names the flag.
func (c *Config) Validate() error {
	bad := func(format string, args ...any) error {
		return lambent.Errorf(lambent.Invalid, "serve", format, args...).WithHint("lambent serve --help")
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil || port == "" {
		return bad("--listen %q is not an address like 127.0.0.1:9700", c.Listen)
	}
	memory := memoryShares()
	switch {
	case c.Data == "":
		return bad("--data is empty")
	case c.Driver != driverAuto && c.Driver != driverNamespace && c.Driver != driverProcess:
		return bad("--driver %q: there are auto, namespace and process", c.Driver)
	case c.KeepAlive != nil && (*c.KeepAlive < 0 || *c.KeepAlive > 24*time.Hour):
		return bad("--keep-alive %v is outside 0s to 24h", *c.KeepAlive)
	case c.MemoryMB < 0 || c.MemoryMB > 0 && c.MemoryMB < lambent.DefaultLimits().MinMemoryMB:
		return bad("--memory %d MB is too little for one instance", c.MemoryMB)
	case c.Grace < 0 || c.Grace > time.Hour:
		return bad("--grace %v is outside 0s to 1h", c.Grace)
	case c.MaxInstances < 1 || c.MaxInstances > 4000:
		return bad("--max-instances %d is outside 1 to 4000", c.MaxInstances)
	case c.Parked < 0 || c.Parked > 1000:
		return bad("--parked %d is outside 0 to 1000", c.Parked)
	case c.MemoryMB == 0 && memory.beside(c.Parked) < memory.functions/2:
		return bad("--parked %d takes %d MB for each runtime, and of %d MB for functions less than half is left: --memory says what is theirs", c.Parked, c.Parked*parkedMB, memory.functions)
	case c.MaxStarts < 1 || c.MaxStarts > 100_000:
		return bad("--max-starts %d is outside 1 to 100000", c.MaxStarts)
	case c.MaxQueue < 1 || c.MaxQueue > 1_000_000:
		return bad("--max-queue %d is outside 1 to 1000000", c.MaxQueue)
	case c.MaxRootMB < 1 || c.MaxRootMB > 1<<20:
		return bad("--max-root %d is outside 1 to %d", c.MaxRootMB, 1<<20)
	case c.KeepDead < time.Hour || c.KeepDead > 10*365*24*time.Hour:
		return bad("--keep-dead %v is outside 1h to 87600h", c.KeepDead)
	case c.WarnLogMB < 1 || c.WarnLogMB > 1<<30:
		return bad("--warn-log %d is not a number of MB, of 1 at least", c.WarnLogMB)
	case c.MaxDead < 1 || c.MaxDead > 1_000_000:
		return bad("--max-dead %d is outside 1 to 1000000", c.MaxDead)
	case c.KeepEvents < time.Minute || c.KeepEvents > 10*365*24*time.Hour:
		return bad("--keep-events %v is outside 1m to 87600h", c.KeepEvents)
	case c.StallTimeout <= 0:
		return bad("the stall timeout %v is not positive", c.StallTimeout)
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return bad("--tls-cert and --tls-key go together")
	case c.TLSCert == "" && !c.Insecure && !isLoopback(host):
		return bad("--listen %s can be reached from other machines: give --tls-cert and --tls-key, or --insecure for plain HTTP", c.Listen)
	}
	for _, h := range c.Hosts {
		if h == "" || strings.ContainsAny(h, "/: ") {
			return bad("--host %q is not a host name", h)
		}
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// listen takes the port.
func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, lambent.Errorf(lambent.Exists, "serve", "%s is in use by another program, perhaps another lambent: %w", addr, err).
			WithHint("lambent serve --listen 127.0.0.1:0")
	}
	return nil, lambent.Errorf(lambent.Invalid, "serve", "cannot listen on %s: %w", addr, err).WithHint("lambent serve --listen %s", DefaultListen)
}

// certificate reads that of --tls-cert; nil without one.
func certificate(cfg *Config) (*tls.Config, error) {
	if cfg.TLSCert == "" {
		return nil, nil
	}
	c, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "serve", "the certificate of --tls-cert and --tls-key cannot be used: %w", err).
			WithHint("lambent serve --help")
	}
	return &tls.Config{Certificates: []tls.Certificate{c}, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// prepareData makes the data directory. As root others may pass through it to the
// code that functions run, and to nothing else.
func prepareData(dir string) error {
	mode := os.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		kind := lambent.Invalid
		if errors.Is(err, os.ErrPermission) {
			kind = lambent.Forbidden
		}
		return lambent.Errorf(kind, "serve", "the data directory %s cannot be made: %w", dir, err).WithHint("lambent serve --data DIR")
	}
	if os.Geteuid() != 0 {
		return nil
	}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		fi, err := os.Stat(d)
		if err != nil {
			return err
		}
		if fi.Mode().Perm()&0o001 == 0 {
			return lambent.Errorf(lambent.Invalid, "serve", "functions run as users of their own and cannot reach the data directory %s: %s is closed to them", dir, d).
				WithHint("lambent serve --data /var/lib/lambent   (or: chmod o+x %s)", d)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}
