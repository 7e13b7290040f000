package lambent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Latest is the qualifier of a function's head, the newest deploy. AWS calls it
// $LATEST, which [ParseName] accepts as another spelling.
const Latest = "latest"

// DefaultProject is the project of whoever names none.
const DefaultProject = "default"

// A Name says which function, and optionally which version or alias of it.
type Name struct {
	Project   string `json:"project"`
	Function  string `json:"function"`
	Qualifier string `json:"qualifier,omitempty"` // "" or "latest", a version number, or an alias
}

// The rule for names is what AWS, Google and Azure all allow.
var (
	nameRule  = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	aliasRule = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	envRule   = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	digestRe  = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// ParseName reads "function", "function:qualifier", or either with a leading
// "project/"; project is what a name without one belongs to.
func ParseName(project, s string) (Name, error) {
	n := Name{Project: project, Function: s}
	if p, f, ok := strings.Cut(s, "/"); ok {
		n.Project, n.Function = p, f
	}
	if f, q, ok := strings.Cut(n.Function, ":"); ok {
		if q == "" {
			return Name{}, Errorf(Invalid, "name", "%q ends with a colon: a version number or an alias must follow it", s)
		}
		n.Function, n.Qualifier = f, q
	}
	if n.Qualifier == "$LATEST" {
		n.Qualifier = Latest
	}
	return n, n.Validate()
}

// Validate checks every part of the name.
func (n Name) Validate() error {
	if !nameRule.MatchString(n.Project) {
		return Errorf(Invalid, "name", "project %q: a name is 1 to 64 letters, digits, '-' or '_'", n.Project)
	}
	if !nameRule.MatchString(n.Function) {
		return Errorf(Invalid, "name", "function name %q: a name is 1 to 64 letters, digits, '-' or '_'", n.Function)
	}
	if n.Qualifier != "" && !aliasRule.MatchString(n.Qualifier) {
		return Errorf(Invalid, "name", "qualifier %q: a version number, %q, or an alias of 1 to 128 letters, digits, '-' or '_'", n.Qualifier, Latest)
	}
	return nil
}

// String returns "function", "function:qualifier", with "project/" before it
// outside the default project.
func (n Name) String() string {
	s := n.Function
	if n.Qualifier != "" {
		s += ":" + n.Qualifier
	}
	if n.Project != DefaultProject {
		s = n.Project + "/" + s
	}
	return s
}

// ARN returns the function's Amazon resource name; the qualifier is part of it
// only where the name has one. Region is what the platform calls itself.
func (n Name) ARN() string {
	arn := "arn:aws:lambda:" + Region + ":" + AccountID(n.Project) + ":function:" + n.Function
	switch n.Qualifier {
	case "":
	case Latest:
		arn += ":$LATEST"
	default:
		arn += ":" + n.Qualifier
	}
	return arn
}

// Region is the one region of the platform; clients may name any, it is ignored.
const Region = "us-east-1"

// AccountID returns the project's 12-digit account number: zeros for the
// default project, otherwise derived from the name.
func AccountID(project string) string {
	if project == DefaultProject {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte("account " + project))
	var n uint64
	for _, b := range sum[:8] {
		n = n<<8 | uint64(b)
	}
	return strconv.FormatUint(100_000_000_000+n%900_000_000_000, 10)
}

// A Config is everything that a deploy decides about how code runs. Two equal
// Configs behave equally; [Config.Digest] is their identity.
type Config struct {
	Runtime      string            `json:"runtime"`           // a [Runtime]'s name, such as "python3.11"
	Handler      string            `json:"handler,omitempty"` // such as "app.handler"; empty for runtimes without one
	Command      []string          `json:"command,omitempty"` // of a web server: what is run in the place of the runtime's own program
	MemoryMB     int               `json:"memory_mb"`
	TmpMB        int               `json:"tmp_mb"`
	Concurrency  int               `json:"concurrency"`             // invocations at a time in one instance
	Timeout      time.Duration     `json:"timeout"`                 // of one attempt
	OnDisconnect OnDisconnect      `json:"on_disconnect,omitempty"` // empty: DisconnectContinue
	Env          map[string]string `json:"env,omitempty"`
	Secrets      []string          `json:"secrets,omitempty"` // names; values are read at init
	Code         string            `json:"code"`              // sha256 of the unpacked tree, hex
	CodeZip      string            `json:"code_zip,omitempty"`
	CodeSize     int64             `json:"code_size,omitempty"` // bytes, of the archive that came in
	Layers       []string          `json:"layers,omitempty"`    // digests of trees, merged in order under /opt
	Entries      []Entry           `json:"entries,omitempty"`
	Network      Network           `json:"network,omitempty"`
	Description  string            `json:"description,omitempty"`
}

// OnDisconnect is what becomes of an invocation whose caller is gone while it runs.
type OnDisconnect string

const (
	DisconnectContinue OnDisconnect = "continue" // it runs to its end, as on Lambda
	DisconnectCancel   OnDisconnect = "cancel"   // it is ended, and its instance with it
)

// An Entry is one callable inside a deployed unit: AWS and Google units have
// one, an Azure app has as many as its host finds.
type Entry struct {
	Name    string `json:"name"`
	Trigger string `json:"trigger,omitempty"`
}

// serverConcurrency is Cloud Run's default for services, whose servers are made for
// several requests at a time. A function is made for one.
const serverConcurrency = 80

// WithDefaults fills what a user may leave out.
func (c Config) WithDefaults() Config {
	if c.MemoryMB == 0 {
		c.MemoryMB = 128
	}
	if c.TmpMB == 0 {
		c.TmpMB = 512
	}
	if c.Concurrency == 0 {
		if c.Concurrency = 1; len(c.Command) > 0 {
			c.Concurrency = serverConcurrency
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 3 * time.Second
	}
	return c
}

// Digest returns the identity of the configuration: the hex sha256 of its
// canonical JSON.
func (c *Config) Digest() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic("lambent: a Config always has a JSON form: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Limits are the bounds that inputs are held to. The zero value allows nothing;
// start from [DefaultLimits].
type Limits struct {
	MinMemoryMB, MaxMemoryMB int
	MinTmpMB, MaxTmpMB       int
	MaxTimeout               time.Duration
	MaxServerTimeout         time.Duration // in the place of MaxTimeout, of functions that are web servers
	MaxConcurrency           int
	MaxEnvBytes              int // names and values together
	MaxPayload               int // bytes, synchronous, either direction
	MaxAsyncPayload          int
	MaxStream                int64 // bytes streamed out by one invocation
	MaxZip                   int64 // bytes, an archive as sent
	MaxTree                  int64 // bytes, unpacked
	MaxFiles                 int
	InitTimeout              time.Duration
}

// DefaultLimits returns AWS Lambda's limits where it has one, ours elsewhere; the
// timeout of web servers is Cloud Run's.
// The response limit of AWS is 6 MB + 100 bytes; the extra is the guest's.
func DefaultLimits() Limits {
	return Limits{
		MinMemoryMB: 128, MaxMemoryMB: 10240, MinTmpMB: 512, MaxTmpMB: 10240,
		MaxTimeout: 900 * time.Second, MaxServerTimeout: 3600 * time.Second, MaxConcurrency: 1000, MaxEnvBytes: 4096,
		MaxPayload: 6 << 20, MaxAsyncPayload: 1 << 20, MaxStream: 200 << 20,
		MaxZip: 50 << 20, MaxTree: 250 << 20, MaxFiles: 100_000, InitTimeout: 10 * time.Second,
	}
}

// Validate checks the fields that can be judged without knowing the machine;
// which runtimes exist is the catalogue's to say, and which of the two limits of a
// timeout applies the guest's. The message names the field, its value and the limit.
func (c *Config) Validate(l Limits) error {
	bad := func(format string, args ...any) error { return Errorf(Invalid, "config", format, args...) }
	switch {
	case c.Runtime == "":
		return bad("runtime is empty: name one that `lambent runtime list` shows")
	case len(c.Runtime) > 64:
		return bad("runtime %.20q... is %d characters, over the limit of 64", c.Runtime, len(c.Runtime))
	case len(c.Handler) > 128:
		return bad("handler %.20q... is %d characters, over the limit of 128", c.Handler, len(c.Handler))
	case strings.ContainsAny(c.Handler, " \t\r\n\x00"):
		return bad("handler %q has white space in it", c.Handler)
	case c.MemoryMB < l.MinMemoryMB || c.MemoryMB > l.MaxMemoryMB:
		return bad("memory %d MB is outside %d to %d MB", c.MemoryMB, l.MinMemoryMB, l.MaxMemoryMB)
	case c.TmpMB < l.MinTmpMB || c.TmpMB > l.MaxTmpMB:
		return bad("tmp %d MB is outside %d to %d MB", c.TmpMB, l.MinTmpMB, l.MaxTmpMB)
	case c.Concurrency < 1 || c.Concurrency > l.MaxConcurrency:
		return bad("concurrency %d is outside 1 to %d", c.Concurrency, l.MaxConcurrency)
	case c.Timeout < time.Millisecond:
		return bad("timeout %v is under 1ms", c.Timeout)
	case c.Timeout > max(l.MaxTimeout, l.MaxServerTimeout):
		return bad("timeout %v is over the limit of %v, and over the %v of a web server", c.Timeout, l.MaxTimeout, l.MaxServerTimeout)
	case c.OnDisconnect != "" && c.OnDisconnect != DisconnectCancel:
		return bad("on-disconnect %q: one of %s, %s", c.OnDisconnect, DisconnectContinue, DisconnectCancel)
	case len(c.Description) > 256:
		return bad("description is %d characters, over the limit of 256", len(c.Description))
	case !digestRe.MatchString(c.Code):
		return bad("code %.70q is not a sha256 digest of 64 hexadecimal digits", c.Code)
	case len(c.Layers) > 5:
		return bad("%d layers are over the limit of 5", len(c.Layers))
	}
	for _, d := range c.Layers {
		if !digestRe.MatchString(d) {
			return bad("layer %.70q is not a sha256 digest of 64 hexadecimal digits", d)
		}
	}
	if err := validCommand(c.Command); err != nil {
		return err
	}
	size := 0
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		if !envRule.MatchString(k) {
			return bad("env name %q: letters, digits and '_' only, not starting with a digit", k)
		}
		if reservedEnv(k) {
			return bad("env name %q is reserved: the platform sets it", k)
		}
		if strings.ContainsRune(c.Env[k], 0) {
			return bad("env %s has a NUL byte in its value", k)
		}
		size += len(k) + len(c.Env[k])
	}
	if size > l.MaxEnvBytes {
		return bad("env is %d bytes in all, over the limit of %d", size, l.MaxEnvBytes)
	}
	if err := c.Network.Validate(); err != nil {
		return err
	}
	for _, s := range c.Secrets {
		if !envRule.MatchString(s) {
			return bad("secret name %q: letters, digits and '_' only, not starting with a digit", s)
		}
	}
	return nil
}

// validCommand bounds what is to be run, as Validate does with the rest.
func validCommand(command []string) error {
	const most = 4096
	size := 0
	for i, word := range command {
		if i == 0 && word == "" || strings.ContainsRune(word, 0) {
			return Errorf(Invalid, "config", "command %.70q has no program, or a NUL byte", command)
		}
		size += len(word) + 1
	}
	if size > most {
		return Errorf(Invalid, "config", "command is %d bytes in all, over the limit of %d", size, most)
	}
	return nil
}

// reservedEnv reports whether AWS forbids a user to set k
// (docs: "Using Lambda environment variables", reserved). The credentials are not among
// it here: AWS has roles for whoever has others, and a function that is to reach AWS
// itself has to be given some.
func reservedEnv(k string) bool {
	switch k {
	case "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
		"AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR":
		return true
	}
	return false
}

// A Scaling holds what an operator decides about how many instances a function
// has. It belongs to the function, not to a version.
type Scaling struct {
	MinInstances int            `json:"min_instances,omitempty"` // kept ready whatever the demand: of latest, and of each version that an alias leads to
	MaxInstances int            `json:"max_instances,omitempty"` // 0: the node's limit
	KeepAlive    *time.Duration `json:"keep_alive,omitempty"`    // nil: the server's default; 0: destroy after each invocation
	Reserved     *int           `json:"reserved,omitempty"`      // concurrent invocations set aside and the most allowed; 0 stops the function
}

// SetAside is how many instances no other function may have, so many revisions being led
// to: those that the reserved invocations take, or else those that are kept ready.
func (s Scaling) SetAside(led, concurrency int) int {
	switch {
	case s.Reserved != nil:
		concurrency = max(concurrency, 1)
		return (*s.Reserved + concurrency - 1) / concurrency
	case s.MaxInstances > 0:
		return min(s.MinInstances*led, s.MaxInstances)
	}
	return s.MinInstances * led
}

// Validate checks the bounds.
func (s Scaling) Validate() error {
	switch {
	case s.MinInstances < 0 || s.MinInstances > 100_000:
		return Errorf(Invalid, "scaling", "min instances %d is outside 0 to 100000", s.MinInstances)
	case s.MaxInstances > 0 && s.MinInstances > s.MaxInstances:
		return Errorf(Invalid, "scaling", "min instances %d are more than max instances %d", s.MinInstances, s.MaxInstances)
	case s.MaxInstances < 0 || s.MaxInstances > 100_000:
		return Errorf(Invalid, "scaling", "max instances %d is outside 0 to 100000", s.MaxInstances)
	case s.KeepAlive != nil && (*s.KeepAlive < 0 || *s.KeepAlive > 24*time.Hour):
		return Errorf(Invalid, "scaling", "keep-alive %v is outside 0s to 24h", *s.KeepAlive)
	case s.Reserved != nil && (*s.Reserved < 0 || *s.Reserved > 100_000):
		return Errorf(Invalid, "scaling", "reserved concurrency %d is outside 0 to 100000", *s.Reserved)
	case s.Reserved != nil && *s.Reserved > 0 && s.MinInstances > *s.Reserved:
		return Errorf(Invalid, "scaling", "min instances %d are more than the %d invocations reserved, which are the most allowed", s.MinInstances, *s.Reserved)
	}
	return nil
}

// A URLPolicy says who may call a function's URL.
type URLPolicy string

const (
	URLNone   URLPolicy = "none"   // there is no URL
	URLPublic URLPolicy = "public" // anyone
	URLToken  URLPolicy = "token"  // bearers of a token of the project
	URLIAM    URLPolicy = "iam"    // requests signed with SigV4
)

// A URL is a function's HTTP face.
type URL struct {
	Policy URLPolicy `json:"policy"`
	Stream bool      `json:"stream,omitempty"` // AWS InvokeMode RESPONSE_STREAM
	CORS   *CORS     `json:"cors,omitempty"`
}

// CORS is what AWS's function URLs call Cors: the platform answers pre-flight
// requests and sets the headers, the function does not see them.
type CORS struct {
	AllowOrigins     []string      `json:"allow_origins,omitempty"`
	AllowMethods     []string      `json:"allow_methods,omitempty"`
	AllowHeaders     []string      `json:"allow_headers,omitempty"`
	ExposeHeaders    []string      `json:"expose_headers,omitempty"`
	AllowCredentials bool          `json:"allow_credentials,omitempty"`
	MaxAge           time.Duration `json:"max_age,omitempty"`
}

// Validate checks the policy and the sizes of the lists.
func (u URL) Validate() error {
	switch u.Policy {
	case URLNone, URLPublic, URLToken:
	case URLIAM:
		return Errorf(Unsupported, "url", "url policy \"iam\" needs the AWS face, which this release does not have: use public, token or none")
	default:
		return Errorf(Invalid, "url", "url policy %q: one of public, token, none", u.Policy)
	}
	if c := u.CORS; c != nil {
		for _, l := range [][]string{c.AllowOrigins, c.AllowMethods, c.AllowHeaders, c.ExposeHeaders} {
			if len(l) > 100 {
				return Errorf(Invalid, "url", "a CORS list has %d items, over the limit of 100", len(l))
			}
			for _, s := range l {
				if len(s) > 253 || strings.ContainsAny(s, "\r\n\x00") {
					return Errorf(Invalid, "url", "CORS item %.40q is over 253 characters or has control characters", s)
				}
			}
		}
		if c.MaxAge < 0 || c.MaxAge > 24*time.Hour {
			return Errorf(Invalid, "url", "CORS max age %v is outside 0s to 24h", c.MaxAge)
		}
		if c.AllowCredentials && slices.Contains(c.AllowOrigins, "*") {
			return Errorf(Invalid, "url", "CORS allows credentials to every origin: name the origins instead of \"*\"")
		}
	}
	return nil
}

// A Function is the head record of a function: what `latest` is, and what
// stands beside versions. It changes by compare-and-set on Revision.
type Function struct {
	Name        Name             `json:"name"`
	Latest      Config           `json:"latest"`
	Revision    uint64           `json:"-"` // the engine's; the record does not hold it
	LastVersion int              `json:"last_version,omitempty"`
	Aliases     map[string]Alias `json:"aliases,omitempty"`
	Scaling     Scaling          `json:"scaling"`
	URL         URL              `json:"url"`
	Async       Async            `json:"async,omitzero"`
	Created     time.Time        `json:"created"`
	Modified    time.Time        `json:"modified"`
}

// RevisionID is Function.Revision as clients see it, for optimistic concurrency.
func (f *Function) RevisionID() string { return strconv.FormatUint(f.Revision, 10) }

// SetAside is what no other function may have: so many instances, each of the memory that
// latest has.
func (f *Function) SetAside() (instances, memoryMB int) {
	led := map[string]bool{Latest: true}
	for _, a := range f.Aliases {
		led[a.Version] = true
		if a.Other != "" {
			led[a.Other] = true
		}
	}
	return f.Scaling.SetAside(len(led), f.Latest.Concurrency), f.Latest.MemoryMB
}

// A Version is an immutable snapshot of a function. It has a key of its own in
// the store, written before the head that counts it.
type Version struct {
	Number      int       `json:"number"` // from 1
	Config      Config    `json:"config"`
	Description string    `json:"description,omitempty"`
	Published   time.Time `json:"published"`
}

// String shows what a person wants to see of a version label.
func (v Version) String() string { return fmt.Sprintf("version %d", v.Number) }

// An Alias names a version, or splits traffic between two.
type Alias struct {
	Version     string  `json:"version"`          // a number, or "latest"
	Other       string  `json:"other,omitempty"`  // a second version, which gets Weight of the traffic
	Weight      float64 `json:"weight,omitempty"` // 0 to 1, the share of Other
	Description string  `json:"description,omitempty"`
}

// Validate checks the shape; whether the versions exist is control's to say.
// AWS: a weighted alias has one additional version, and neither is $LATEST.
func (a Alias) Validate() error {
	check := func(v string) error {
		if v == Latest {
			return nil
		}
		if n, err := strconv.Atoi(v); err != nil || n < 1 {
			return Errorf(Invalid, "alias", "version %q: a number from 1, or %q", v, Latest)
		}
		return nil
	}
	if err := check(a.Version); err != nil {
		return err
	}
	if a.Other == "" {
		if a.Weight != 0 {
			return Errorf(Invalid, "alias", "weight %v without a second version", a.Weight)
		}
		return nil
	}
	if err := check(a.Other); err != nil {
		return err
	}
	switch {
	case a.Version == Latest || a.Other == Latest:
		return Errorf(Invalid, "alias", "%q cannot share traffic: publish a version first", Latest)
	case a.Version == a.Other:
		return Errorf(Invalid, "alias", "both versions are %s", a.Version)
	case a.Weight < 0 || a.Weight > 1:
		return Errorf(Invalid, "alias", "weight %v is outside 0 to 1", a.Weight)
	}
	return nil
}

// Pick returns the version that serves one invocation; random is uniform in
// [0, 1).
func (a Alias) Pick(random float64) string {
	if a.Other != "" && random < a.Weight {
		return a.Other
	}
	return a.Version
}
