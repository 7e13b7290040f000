package client

import (
	"time"

	"lambent"
)

// What goes over the wire, as the OpenAPI document describes it. A test holds
// these types to the server's.

// A Function is a function as it is now.
type Function struct {
	Name          string           `json:"name"`
	Project       string           `json:"project"`
	ARN           string           `json:"arn"`               // What AWS's tools call it
	Revision      string           `json:"revision"`          // Another one after every change: what expect_revision takes
	Configuration Configuration    `json:"configuration"`     // What latest is
	Network       []string         `json:"network,omitempty"` // What latest may connect to: as its configuration says, or else the project
	Scaling       Scaling          `json:"scaling"`
	URL           URL              `json:"url"`
	Async         Async            `json:"async"`
	LastVersion   int              `json:"last_version"` // The newest version published; 0 where there is none
	Aliases       map[string]Alias `json:"aliases"`      // By name
	Created       time.Time        `json:"created"`
	Modified      time.Time        `json:"modified"`
}

// A Configuration is how code runs, and which.
type Configuration struct {
	Runtime      string               `json:"runtime"`
	Handler      string               `json:"handler,omitempty"` // Not for runtimes without one
	Command      []string             `json:"command,omitempty"` // Of a web server: what is run in the place of the runtime's own program
	MemoryMB     int                  `json:"memory_mb"`
	TmpMB        int                  `json:"tmp_mb"`        // Size of /tmp
	Concurrency  int                  `json:"concurrency"`   // Invocations at a time in one instance
	TimeoutMS    int64                `json:"timeout_ms"`    // Of one attempt
	OnDisconnect lambent.OnDisconnect `json:"on_disconnect"` // What becomes of an invocation whose caller is gone: continue or cancel
	Env          map[string]string    `json:"env,omitempty"`
	FixedEnv     []string             `json:"fixed_env,omitempty"` // What of env is only read when the runtime boots: each start of an instance boots it
	Framework    string               `json:"framework,omitempty"` // Of a runtime of Google's: whose functions framework runs the code, and when that is loaded
	Network      []string             `json:"network,omitempty"`   // What the code may connect to; not there: what the project says, or else the internet, and nothing private
	Description  string               `json:"description,omitempty"`
	Code         string               `json:"code"`          // sha256 of the unpacked tree
	Zip          string               `json:"zip,omitempty"` // sha256 of the archive
	ZipBytes     int64                `json:"zip_bytes,omitempty"`
}

// A Scaling is how many instances there may be.
type Scaling struct {
	MinInstances int    `json:"min_instances"`           // Kept ready whatever the demand
	MaxInstances int    `json:"max_instances"`           // 0: the server's limit
	KeepAliveMS  *int64 `json:"keep_alive_ms,omitempty"` // How long an idle instance is kept; not there: the server's default
	Reserved     *int   `json:"reserved,omitempty"`      // Concurrent invocations set aside, and the most allowed; 0 stops the function
}

// An Async is what becomes of asynchronous invocations.
type Async struct {
	Attempts  int                      `json:"attempts"`             // In all, the first one too
	BackoffMS int64                    `json:"backoff_ms"`           // From the first failure to the second attempt, and up to a fifth more
	Factor    float64                  `json:"factor"`               // Of each further wait to the one before
	MaxAgeMS  int64                    `json:"max_age_ms"`           // Since it was accepted: after that it is not tried any more
	OnSuccess lambent.AsyncDestination `json:"on_success,omitempty"` // Who is told that it did well: function:NAME, with :QUALIFIER or without, queue:NAME, events, or the URL of a webhook; empty: nobody
	OnFailure lambent.AsyncDestination `json:"on_failure,omitempty"` // Who is told that it is not tried any more, likewise; then it is no dead letter
}

// A URL is a function's HTTP face.
type URL struct {
	Policy lambent.URLPolicy `json:"policy"` // Who may call it
	Stream bool              `json:"stream"` // Pass on what the function writes as it writes it
	CORS   *CORS             `json:"cors,omitempty"`
	Href   string            `json:"href,omitempty"` // The address, where there is one
}

// A CORS says what pages of other origins may do.
type CORS struct {
	AllowOrigins     []string `json:"allow_origins,omitempty"`
	AllowMethods     []string `json:"allow_methods,omitempty"`
	AllowHeaders     []string `json:"allow_headers,omitempty"`
	ExposeHeaders    []string `json:"expose_headers,omitempty"`
	AllowCredentials bool     `json:"allow_credentials,omitempty"`
	MaxAgeMS         int64    `json:"max_age_ms,omitempty"`
}

// A FunctionList is one page of a project's functions.
type FunctionList struct {
	Functions []Function `json:"functions"`      // In the order of their names
	Next      string     `json:"next,omitempty"` // What after takes for the next page; not there on the last one
}

// A DeployRequest says what a function is to be. What is left out stays as it
// is, or is the default where the function is new.
type DeployRequest struct {
	Runtime      *string               `json:"runtime,omitempty"` // A family, such as python3 and nodejs, or google-python and google-nodejs, means the newest of it that is there
	Handler      *string               `json:"handler,omitempty"`
	Command      []string              `json:"command,omitzero"` // Of a web server: what is run, as a whole; empty: the runtime's own program
	MemoryMB     *int                  `json:"memory_mb,omitempty"`
	TmpMB        *int                  `json:"tmp_mb,omitempty"`      // Size of /tmp
	Concurrency  *int                  `json:"concurrency,omitempty"` // Invocations at a time in one instance
	TimeoutMS    *int64                `json:"timeout_ms,omitempty"`
	OnDisconnect *lambent.OnDisconnect `json:"on_disconnect,omitempty"` // What becomes of an invocation whose caller is gone: continue or cancel
	Env          map[string]string     `json:"env,omitzero"`            // As a whole: what is not in it is gone
	Network      []string              `json:"network,omitzero"`        // What the code may connect to, as a whole: CIDR, CIDR:PORT, HOST, HOST:PORT or internet, or none alone; empty, or default alone: what the project says
	Description  *string               `json:"description,omitempty"`

	Code   string `json:"code,omitempty"`   // Digest of code that was uploaded
	Zip    string `json:"zip,omitempty"`    // Digest of the archive that it came in, for who downloads the code again
	Source string `json:"source,omitempty"` // Digest of uploaded source to build; instead of code
	Build  string `json:"build,omitempty"`  // How to build the source: go, npm, pip, cargo or maven
	Fresh  bool   `json:"fresh,omitempty"`  // Install everything again, whatever an earlier build has kept

	Scaling *ScalingRequest `json:"scaling,omitempty"`
	URL     *URLRequest     `json:"url,omitempty"`
	Async   *AsyncRequest   `json:"async,omitempty"`

	Triggers []SourceRequest `json:"triggers,omitzero"` // What else invokes the function, as a whole: triggers that an earlier deploy has made and that are not in it are removed; those that were added otherwise stay

	ExpectRevision     string `json:"expect_revision,omitempty"` // Refuse unless the function is at this revision
	Publish            bool   `json:"publish,omitempty"`         // Also as a version, unless the last one is the same
	VersionDescription string `json:"version_description,omitempty"`
	Check              *bool  `json:"check,omitempty"`   // false: do not start the code on trial first
	DryRun             bool   `json:"dry_run,omitempty"` // Say what would be, and change nothing; code may be left out
}

// A ScalingRequest changes a Scaling. What is left out stays.
type ScalingRequest struct {
	MinInstances *int   `json:"min_instances,omitempty"` // Kept ready whatever the demand
	MaxInstances *int   `json:"max_instances,omitempty"` // 0: the server's limit
	KeepAliveMS  *int64 `json:"keep_alive_ms,omitempty"` // -1: the server's default
	Reserved     *int   `json:"reserved,omitempty"`      // -1: none
}

// An AsyncRequest changes an Async. What is left out stays; 0 is the default.
type AsyncRequest struct {
	Attempts  *int                      `json:"attempts,omitempty"` // In all, the first one too: 1 to 1000
	BackoffMS *int64                    `json:"backoff_ms,omitempty"`
	Factor    *float64                  `json:"factor,omitempty"`
	MaxAgeMS  *int64                    `json:"max_age_ms,omitempty"`
	OnSuccess *lambent.AsyncDestination `json:"on_success,omitempty"`
	OnFailure *lambent.AsyncDestination `json:"on_failure,omitempty"`
}

// A URLRequest changes a URL. What is left out stays.
type URLRequest struct {
	Policy *lambent.URLPolicy `json:"policy,omitempty"` // One of none, public, token
	Stream *bool              `json:"stream,omitempty"`
	CORS   *CORS              `json:"cors,omitempty"` // As a whole
}

// A Code is what was made of an archive that came in, or of a build.
type Code struct {
	Digest   string `json:"code"`      // sha256 of the unpacked tree: what a function is deployed from
	Zip      string `json:"zip"`       // sha256 of the archive
	ZipBytes int64  `json:"zip_bytes"` // Size of the archive
	Bytes    int64  `json:"bytes"`     // Size of all files, unpacked
	Files    int    `json:"files"`     // Files and links
}

// A Version is an immutable snapshot of a function.
type Version struct {
	Version       int           `json:"version"`
	Description   string        `json:"description,omitempty"`
	Published     time.Time     `json:"published"`
	Configuration Configuration `json:"configuration"`
}

// A VersionList is one page of a function's versions.
type VersionList struct {
	Versions []Version `json:"versions"`       // In the order of their numbers
	Next     int       `json:"next,omitempty"` // What after takes for the next page; not there on the last one
}

// An Alias is a name for a version, or for two that share the traffic.
type Alias struct {
	Name        string  `json:"name"`
	Version     string  `json:"version"`          // A number, or latest
	Other       string  `json:"other,omitempty"`  // A second version
	Weight      float64 `json:"weight,omitempty"` // The share of the second one
	Description string  `json:"description,omitempty"`
}

// An AliasList is all of a function's aliases.
type AliasList struct {
	Aliases []Alias `json:"aliases"` // In the order of their names
}

// A Project is what an operator says about all functions of one project.
type Project struct {
	Name           string    `json:"name"`
	Revision       string    `json:"revision"`                  // Another one after every change; 0 where nobody has said anything
	Network        []string  `json:"network,omitempty"`         // What functions may connect to that do not say their own; not there: the internet, and nothing private
	MaxConcurrency int       `json:"max_concurrency,omitempty"` // Invocations at a time, of all functions together; not there: no limit
	Functions      int       `json:"functions"`
	Modified       time.Time `json:"modified,omitzero"`
}

// A ProjectRequest changes a Project. What is left out stays.
type ProjectRequest struct {
	Network        []string `json:"network,omitzero"`          // As a whole; empty, or default alone: nothing is said
	MaxConcurrency *int     `json:"max_concurrency,omitempty"` // Invocations at a time, of all functions together; 0: no limit
	ExpectRevision string   `json:"expect_revision,omitempty"` // Refuse unless the project is at this revision
}

// A ProjectList is every project that the token is for.
type ProjectList struct {
	Projects []Project `json:"projects"` // In the order of their names
}

// A LogLine is one line of a function's log.
type LogLine struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version,omitempty"` // That wrote it: a number, or latest
	Request string    `json:"request,omitempty"` // The invocation during which it was written
	Text    string    `json:"text"`
	Dropped int       `json:"dropped,omitempty"` // Lines that are missing before this one, because the disk or this reader was too slow
	Problem *problem  `json:"problem,omitempty"` // Why reading ended early; the last line
}

// An Invocation is the usage record of one attempt: raw facts, no prices.
type Invocation struct {
	ID          string    `json:"id"`
	Attempt     int       `json:"attempt"` // From 1
	Project     string    `json:"project"`
	Function    string    `json:"function"`
	Version     string    `json:"version"`
	Alias       string    `json:"alias,omitempty"` // That led to the version
	Trigger     string    `json:"trigger"`         // What made it: invoke, http, or of what kind its trigger is, such as schedule
	Runtime     string    `json:"runtime"`
	Guest       string    `json:"guest,omitempty"` // The contract with its code: lambda, or gcf for Google's functions and other web servers
	Instance    string    `json:"instance"`
	InitType    string    `json:"init_type,omitempty"` // Of the instance, as AWS calls it: provisioned-concurrency is one of those that the minimum keeps ready
	Start       time.Time `json:"start"`               // When the request arrived
	End         time.Time `json:"end"`                 // When the answer's last byte was ready
	QueueUS     int64     `json:"queue_us"`            // Waited for an instance, or for the start of one
	PlaceUS     int64     `json:"place_us"`            // A sandbox was taken or made, and the code put into it; 0 on a warm start
	InitUS      int64     `json:"init_us"`             // Initialised the code; 0 on a warm start
	AheadUS     int64     `json:"ahead_us,omitempty"`  // Of the first call in an instance that was initialised before anybody called: what that took. It is no part of the call, and not billed
	RunUS       int64     `json:"run_us"`              // In the function
	ShareUS     int64     `json:"share_us,omitempty"`  // Of RunUS, where others ran in the instance at the same time, which divide what is billed; 0: all of it
	BusyUS      int64     `json:"busy_us,omitempty"`   // Where concurrency is there: how long the instance was busy without a pause, its init included; 0: it still was
	StreamUS    int64     `json:"stream_us,omitempty"` // Of RunUS, where the answer was streamed: it was handed on to its caller, who may be slow
	RespondUS   int64     `json:"respond_us"`          // The answer was handed on once the function was done
	BilledMS    int64     `json:"billed_ms"`
	MemoryMB    int       `json:"memory_mb"` // The limit
	TmpMB       int       `json:"tmp_mb"`
	Concurrency int       `json:"concurrency,omitempty"` // How many at a time the instance may serve; 0: one
	PeakMB      int64     `json:"peak_mb"`               // The most that the instance has used so far
	CPUUS       int64     `json:"cpu_us"`                // CPU time of the sandbox
	BytesIn     int64     `json:"bytes_in"`
	BytesOut    int64     `json:"bytes_out"`
	Cold        bool      `json:"cold"`            // An instance was started for it
	Outcome     string    `json:"outcome"`         // ok, or the kind of the fault
	Error       string    `json:"error,omitempty"` // The fault's type
}

// An InvocationList holds usage records.
type InvocationList struct {
	Invocations []Invocation `json:"invocations"`    // The newest first
	More        bool         `json:"more,omitempty"` // There are older ones: ask again with until
}

// A Total is what one function used.
type Total struct {
	Project      string  `json:"project"`
	Function     string  `json:"function"`
	Invocations  int64   `json:"invocations"` // Attempts
	Errors       int64   `json:"errors"`      // Of them, that did not succeed
	ColdStarts   int64   `json:"cold_starts"`
	BilledMS     int64   `json:"billed_ms"`
	GBSeconds    float64 `json:"gb_seconds"`     // Memory limit x billed time; a GB is 1024 MB
	TmpGBSeconds float64 `json:"tmp_gb_seconds"` // What /tmp has over 512 MB x billed time
	RunUS        int64   `json:"run_us"`
	InitUS       int64   `json:"init_us"`
	QueueUS      int64   `json:"queue_us"`
	CPUUS        int64   `json:"cpu_us"`
	BytesIn      int64   `json:"bytes_in"`
	BytesOut     int64   `json:"bytes_out"`
	PeakMB       int64   `json:"peak_mb"`          // The highest
	Amount       string  `json:"amount,omitempty"` // What that costs, where a price book was asked for
}

// A Bill is what usage would cost by price books. Amounts are decimal numbers.
type Bill struct {
	Books    []PriceBook `json:"books"` // Those of the lines
	Currency string      `json:"currency"`
	Lines    []BillLine  `json:"lines"`
	Total    string      `json:"total"` // The sum of the lines
}

// A PriceBook is the price list of a cloud.
type PriceBook struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Source string `json:"source,omitempty"` // Where the prices are published
	Date   string `json:"date,omitempty"`   // As of when
	Note   string `json:"note,omitempty"`   // What is priced, and what is not
}

// A BillLine is one item of one function.
type BillLine struct {
	Function string `json:"function"`
	Book     string `json:"book"` // The price book's name
	Item     string `json:"item"`
	Unit     string `json:"unit"`
	Quantity string `json:"quantity"`
	Amount   string `json:"amount"` // Rounded to ten decimal places
}

// A UsageReport says what functions used.
type UsageReport struct {
	Since     *time.Time `json:"since,omitempty"`
	Until     time.Time  `json:"until"`
	Functions []Total    `json:"functions"`
	Bill      *Bill      `json:"bill,omitempty"` // Where a price book was asked for
}

// A Server is what a server says of itself.
type Server struct {
	Version   string    `json:"version"`
	Driver    string    `json:"driver"`    // What isolates functions
	Isolation string    `json:"isolation"` // What the driver promises, in one line
	DataDir   string    `json:"data_dir"`
	Started   time.Time `json:"started"`
	UptimeS   int64     `json:"uptime_s"`
	Functions int       `json:"functions"` // In all projects
	Instances Instances `json:"instances"`
	Limits    Limits    `json:"limits"`
}

// Instances counts instances by what they do.
type Instances struct {
	Idle     int `json:"idle"`
	Busy     int `json:"busy"`
	Starting int `json:"starting"`
	Queued   int `json:"queued"` // Invocations that wait for one
}

// Limits are the bounds that inputs are held to.
type Limits struct {
	MinMemoryMB        int   `json:"min_memory_mb"`
	MaxMemoryMB        int   `json:"max_memory_mb"`
	MinTmpMB           int   `json:"min_tmp_mb"`
	MaxTmpMB           int   `json:"max_tmp_mb"`
	MaxTimeoutMS       int64 `json:"max_timeout_ms"`
	MaxServerTimeoutMS int64 `json:"max_server_timeout_ms"`
	InitTimeoutMS      int64 `json:"init_timeout_ms"`
	MaxConcurrency     int   `json:"max_concurrency"`
	EnvBytes           int   `json:"env_bytes"`     // Names and values together
	PayloadBytes       int   `json:"payload_bytes"` // Either way
	StreamBytes        int64 `json:"stream_bytes"`  // Streamed out by one invocation
	ZipBytes           int64 `json:"zip_bytes"`     // An archive as sent
	TreeBytes          int64 `json:"tree_bytes"`    // Unpacked
	Files              int   `json:"files"`
}

// A Runtime is one that functions can run on here.
type Runtime struct {
	Name     string   `json:"name"`
	Family   string   `json:"family,omitempty"`  // What names the newest of its kind
	Note     string   `json:"note,omitempty"`    // Where it is from, in one line
	From     string   `json:"from,omitempty"`    // What was added: host, npm, tar, or an image
	Version  string   `json:"version,omitempty"` // Of an interpreter that was added, as it says itself
	Packages []string `json:"packages,omitempty"`
	Bytes    int64    `json:"bytes,omitempty"` // On the disk, of what was added
}

// A RuntimeRequest says which runtime is to be there, and what of.
type RuntimeRequest struct {
	Name     string    `json:"name"`
	From     string    `json:"from,omitempty"`     // host, npm or an image; "": what the runtime is from now, or the usual
	Packages *[]string `json:"packages,omitempty"` // nil: those that are there
}

// A RuntimeList is every runtime of the server.
type RuntimeList struct {
	Runtimes []Runtime `json:"runtimes"`
}
