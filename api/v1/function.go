package v1

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
)

// A Function is a function as it is now.
type Function struct {
	Name          string           `json:"name" example:"thumbs"`
	Project       string           `json:"project" example:"default"`
	ARN           string           `json:"arn" doc:"What AWS's tools call it" example:"arn:aws:lambda:us-east-1:000000000000:function:thumbs"`
	Revision      string           `json:"revision" doc:"Another one after every change: what expect_revision takes" example:"42"`
	Configuration Configuration    `json:"configuration" doc:"What latest is"`
	Network       []string         `json:"network,omitempty" doc:"What latest may connect to: as its configuration says, or else the project; not there: the internet, and nothing private" example:"[\"none\"]"`
	Scaling       Scaling          `json:"scaling"`
	URL           URL              `json:"url"`
	Async         Async            `json:"async"`
	LastVersion   int              `json:"last_version" doc:"The newest version published; 0 where there is none" example:"3"`
	Aliases       map[string]Alias `json:"aliases" doc:"By name"`
	Created       time.Time        `json:"created"`
	Modified      time.Time        `json:"modified"`
}

// A Configuration is how code runs, and which.
type Configuration struct {
	Runtime      string               `json:"runtime" example:"python3.11"`
	Handler      string               `json:"handler,omitempty" doc:"Not for runtimes without one" example:"app.handler"`
	Command      []string             `json:"command,omitempty" doc:"Of a web server: what is run in the place of the runtime's own program" example:"[\"node\",\"server.js\"]"`
	MemoryMB     int                  `json:"memory_mb" example:"128"`
	TmpMB        int                  `json:"tmp_mb" doc:"Size of /tmp" example:"512"`
	Concurrency  int                  `json:"concurrency" doc:"Invocations at a time in one instance" example:"1"`
	TimeoutMS    int64                `json:"timeout_ms" doc:"Of one attempt" example:"3000"`
	OnDisconnect lambent.OnDisconnect `json:"on_disconnect" enum:"continue,cancel" doc:"What becomes of an invocation whose caller is gone: it runs on, as on Lambda, or is ended, and its instance with it" example:"continue"`
	Env          map[string]string    `json:"env,omitempty"`
	FixedEnv     []string             `json:"fixed_env,omitempty" doc:"What of env is only read when the runtime boots: each start of an instance boots it, instead of taking one that is booted already" example:"[\"NODE_OPTIONS\"]"`
	Framework    string               `json:"framework,omitempty" doc:"Of a runtime of Google's: whose functions framework runs the code, and when that is loaded" example:"functions-framework 3.10.2, loaded ahead"`
	Network      []string             `json:"network,omitempty" doc:"What the code may connect to; not there: what the project says, or else the internet, and nothing private" example:"[\"db.internal:5432\"]"`
	Description  string               `json:"description,omitempty"`
	Code         string               `json:"code" doc:"sha256 of the unpacked tree"`
	Zip          string               `json:"zip,omitempty" doc:"sha256 of the archive"`
	ZipBytes     int64                `json:"zip_bytes,omitempty"`
}

// A Scaling is how many instances there may be.
type Scaling struct {
	MinInstances int    `json:"min_instances" doc:"Kept ready whatever the demand: of latest, and of each version that an alias leads to" example:"0"`
	MaxInstances int    `json:"max_instances" doc:"0: the server's limit" example:"0"`
	KeepAliveMS  *int64 `json:"keep_alive_ms,omitempty" doc:"How long an idle instance is kept; not there: the server's default" example:"600000"`
	Reserved     *int   `json:"reserved,omitempty" doc:"Invocations at a time that are set aside, and the most allowed; 0 stops the function" example:"10"`
}

// An Async is what becomes of asynchronous invocations.
type Async struct {
	Attempts  int                      `json:"attempts" doc:"In all, the first one too" example:"3"`
	BackoffMS int64                    `json:"backoff_ms" doc:"From the first failure to the second attempt, and up to a fifth more" example:"60000"`
	Factor    float64                  `json:"factor" doc:"Of each further wait to the one before" example:"2"`
	MaxAgeMS  int64                    `json:"max_age_ms" doc:"Since it was accepted: after that it is not tried any more" example:"21600000"`
	OnSuccess lambent.AsyncDestination `json:"on_success,omitempty" doc:"Who is told that it did well, as AWS tells a destination: function:NAME, with :QUALIFIER or without; queue:NAME; events, those who have a trigger with a pattern for it; or the URL of a webhook, which is signed as Standard Webhooks has it. Empty: nobody" example:"function:audit"`
	OnFailure lambent.AsyncDestination `json:"on_failure,omitempty" doc:"Who is told that it is not tried any more, likewise; then it is no dead letter" example:"events"`
}

// A URL is a function's HTTP face.
type URL struct {
	Policy lambent.URLPolicy `json:"policy" enum:"none,public,token" doc:"Who may call it" example:"public"`
	Stream bool              `json:"stream" doc:"Pass on what the function writes as it writes it"`
	CORS   *CORS             `json:"cors,omitempty"`
	Href   string            `json:"href,omitempty" doc:"The address, where there is one" example:"http://thumbs.fn.localhost:9700/"`
}

// A CORS says what pages of other origins may do.
type CORS struct {
	AllowOrigins     []string `json:"allow_origins,omitempty" example:"[\"https://example.com\"]"`
	AllowMethods     []string `json:"allow_methods,omitempty" example:"[\"GET\"]"`
	AllowHeaders     []string `json:"allow_headers,omitempty"`
	ExposeHeaders    []string `json:"expose_headers,omitempty"`
	AllowCredentials bool     `json:"allow_credentials,omitempty"`
	MaxAgeMS         int64    `json:"max_age_ms,omitempty" example:"3600000"`
}

func (s *service) function(f *lambent.Function) Function {
	name := lambent.Name{Project: f.Name.Project, Function: f.Name.Function}
	out := Function{
		Name: name.Function, Project: name.Project, ARN: name.ARN(), Revision: f.RevisionID(),
		Configuration: s.configuration(&f.Latest), LastVersion: f.LastVersion, Created: f.Created, Modified: f.Modified,
		Network: s.Control.Network(f),
		Scaling: Scaling{MinInstances: f.Scaling.MinInstances, MaxInstances: f.Scaling.MaxInstances, Reserved: f.Scaling.Reserved},
		URL:     URL{Policy: f.URL.Policy, Stream: f.URL.Stream, CORS: cors(f.URL.CORS)},
		Async:   async(f.Async),
		Aliases: make(map[string]Alias, len(f.Aliases)),
	}
	if k := f.Scaling.KeepAlive; k != nil {
		out.Scaling.KeepAliveMS = new(k.Milliseconds())
	}
	if f.URL.Policy != lambent.URLNone {
		out.URL.Href = s.FunctionURL(name)
	}
	for n, a := range f.Aliases {
		out.Aliases[n] = alias(n, a)
	}
	return out
}

func (s *service) configuration(c *lambent.Config) Configuration {
	return Configuration{
		FixedEnv: s.FixedEnv(c), Framework: s.Framework(c),
		Runtime: c.Runtime, Handler: c.Handler, Command: c.Command, MemoryMB: c.MemoryMB, TmpMB: c.TmpMB, Concurrency: c.Concurrency,
		TimeoutMS: c.Timeout.Milliseconds(), OnDisconnect: cmp.Or(c.OnDisconnect, lambent.DisconnectContinue), Env: c.Env, Network: c.Network, Description: c.Description,
		Code: c.Code, Zip: c.CodeZip, ZipBytes: c.CodeSize,
	}
}

func async(a lambent.Async) Async {
	a = a.WithDefaults()
	return Async{Attempts: a.Attempts, BackoffMS: a.Backoff.Milliseconds(), Factor: a.Factor, MaxAgeMS: a.MaxAge.Milliseconds(), OnSuccess: a.OnSuccess, OnFailure: a.OnFailure}
}

func cors(c *lambent.CORS) *CORS {
	if c == nil {
		return nil
	}
	return &CORS{c.AllowOrigins, c.AllowMethods, c.AllowHeaders, c.ExposeHeaders, c.AllowCredentials, c.MaxAge.Milliseconds()}
}

func (c *CORS) root() *lambent.CORS {
	if c == nil {
		return nil
	}
	return &lambent.CORS{
		AllowOrigins: c.AllowOrigins, AllowMethods: c.AllowMethods, AllowHeaders: c.AllowHeaders, ExposeHeaders: c.ExposeHeaders,
		AllowCredentials: c.AllowCredentials, MaxAge: milliseconds(c.MaxAgeMS),
	}
}

// milliseconds is the duration that a client means. One that would overflow is
// the longest one, which every limit then refuses.
func milliseconds(ms int64) time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(max(-most, min(ms, most))) * time.Millisecond
}

// Inputs and outputs of the operations. Those that are embedded have capitals:
// huma looks into no others.
type (
	FunctionInput struct {
		Scope
		Name string `path:"name" doc:"The function's name" example:"thumbs"`
	}
	// changeInput is that of a change without a body.
	changeInput struct {
		FunctionInput
		Expect string `query:"expect_revision" doc:"Refuse unless the function is at this revision" example:"42"`
	}
	functionOutput struct{ Body Function }
	listInput      struct {
		Scope
		After string `query:"after" doc:"Names after this one: next of the page before" example:"thumbs"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The most that one page has" example:"100"`
	}
	listOutput struct{ Body FunctionList }
)

// A FunctionList is one page of a project's functions.
type FunctionList struct {
	Functions []Function `json:"functions" doc:"In the order of their names"`
	Next      string     `json:"next,omitempty" doc:"What after takes for the next page; not there on the last one"`
}

func (s *service) functionOperations(api huma.API) {
	operation(s, api, huma.Operation{
		OperationID: "list-functions", Method: http.MethodGet, Path: "/v1/functions", Tags: []string{"functions"},
		Summary: "List functions",
	}, s.listFunctions)
	operation(s, api, huma.Operation{
		OperationID: "get-function", Method: http.MethodGet, Path: "/v1/functions/{name}", Tags: []string{"functions"},
		Summary: "Get a function",
	}, s.getFunction)
	operation(s, api, huma.Operation{
		OperationID: "delete-function", Method: http.MethodDelete, Path: "/v1/functions/{name}", Tags: []string{"functions"},
		Summary:     "Delete a function",
		Description: "With its versions, aliases and log. Its usage records stay.",
	}, s.deleteFunction)
	s.deployOperation(api)
}

func (s *service) listFunctions(ctx context.Context, in *listInput) (*listOutput, error) {
	project, err := in.project(ctx)
	if err != nil {
		return nil, err
	}
	if err := (lambent.Name{Project: project, Function: "any"}).Validate(); err != nil {
		return nil, err
	}
	functions, more, err := s.Control.List(project, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &listOutput{Body: FunctionList{Functions: make([]Function, 0, len(functions))}}
	for _, f := range functions {
		out.Body.Functions = append(out.Body.Functions, s.function(f))
	}
	if more {
		out.Body.Next = functions[len(functions)-1].Name.Function
	}
	return out, nil
}

func (s *service) getFunction(ctx context.Context, in *FunctionInput) (*functionOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	return s.functionOutput(s.Control.Get(name))
}

func (s *service) deleteFunction(ctx context.Context, in *changeInput) (*struct{}, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	return nil, s.Control.Delete(ctx, name, in.Expect)
}

func (s *service) functionOutput(f *lambent.Function, err error) (*functionOutput, error) {
	if err != nil {
		return nil, err
	}
	return &functionOutput{Body: s.function(f)}, nil
}
