package v1

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"lambent"
	"lambent/control"
)

// A DeployRequest says what a function is to be. What is left out stays as it
// is, or is the default where the function is new.
type DeployRequest struct {
	Runtime      *string               `json:"runtime,omitempty" doc:"A family, such as python3 and nodejs, or google-python and google-nodejs, means the newest of it that is there" example:"python3.11"`
	Handler      *string               `json:"handler,omitempty" example:"app.handler"`
	Command      []string              `json:"command,omitzero" doc:"Of a web server: what is run, as a whole; empty: the runtime's own program" example:"[\"node\",\"server.js\"]"`
	MemoryMB     *int                  `json:"memory_mb,omitempty" example:"128"`
	TmpMB        *int                  `json:"tmp_mb,omitempty" doc:"Size of /tmp" example:"512"`
	Concurrency  *int                  `json:"concurrency,omitempty" doc:"Invocations at a time in one instance; of a new function 1, of a web server 80" example:"1"`
	TimeoutMS    *int64                `json:"timeout_ms,omitempty" example:"3000"`
	OnDisconnect *lambent.OnDisconnect `json:"on_disconnect,omitempty" enum:"continue,cancel" doc:"What becomes of an invocation whose caller is gone" example:"continue"`
	Env          map[string]string     `json:"env,omitzero" doc:"As a whole: what is not in it is gone"`
	Network      []string              `json:"network,omitzero" doc:"What the code may connect to, as a whole: CIDR, CIDR:PORT, HOST, HOST:PORT or internet, or none alone; empty, or default alone: what the project says, or else the internet, and nothing private" example:"[\"db.internal:5432\"]"`
	Description  *string               `json:"description,omitempty"`

	Code   string `json:"code,omitempty" doc:"Digest of code that was uploaded" example:"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`
	Zip    string `json:"zip,omitempty" doc:"Digest of the archive that it came in, for who downloads the code again"`
	Source string `json:"source,omitempty" doc:"Digest of uploaded source to build; instead of code"`
	Build  string `json:"build,omitempty" doc:"How to build the source" enum:"go,npm,pip,cargo,maven,gradle" example:"go"`
	Fresh  bool   `json:"fresh,omitempty" doc:"Install everything again, whatever an earlier build has kept"`

	Scaling *ScalingRequest `json:"scaling,omitempty"`
	URL     *URLRequest     `json:"url,omitempty"`
	Async   *AsyncRequest   `json:"async,omitempty"`

	Triggers []SourceRequest `json:"triggers,omitzero" doc:"What else invokes the function, as a whole: triggers that an earlier deploy has made and that are not in it are removed; those that were added otherwise stay"`

	ExpectRevision     string `json:"expect_revision,omitempty" doc:"Refuse unless the function is at this revision" example:"42"`
	Publish            bool   `json:"publish,omitempty" doc:"Also as a version, unless the last one is the same"`
	VersionDescription string `json:"version_description,omitempty" maxLength:"256"`
	Check              *bool  `json:"check,omitempty" doc:"false: do not start the code on trial first" default:"true"`
	DryRun             bool   `json:"dry_run,omitempty" doc:"Say what would be, and change nothing; code may be left out"`
}

// A BuildRequest says what is to be built.
type BuildRequest struct {
	Kind, Source string // as in a DeployRequest
	Runtime      string // that it is for
	Name         lambent.Name
	Fresh        bool
}

// A ScalingRequest changes a Scaling. What is left out stays.
type ScalingRequest struct {
	MinInstances *int   `json:"min_instances,omitempty" doc:"Kept ready whatever the demand: of latest, and of each version that an alias leads to" example:"0"`
	MaxInstances *int   `json:"max_instances,omitempty" doc:"0: the server's limit" example:"10"`
	KeepAliveMS  *int64 `json:"keep_alive_ms,omitempty" doc:"-1: the server's default" example:"600000"`
	Reserved     *int   `json:"reserved,omitempty" doc:"Invocations at a time that are set aside, and the most allowed; 0 stops the function, -1: none" example:"10"`
}

// An AsyncRequest changes an Async. What is left out stays; 0 is the default.
type AsyncRequest struct {
	Attempts  *int                      `json:"attempts,omitempty" doc:"In all, the first one too: 1 to 1000" example:"3"`
	BackoffMS *int64                    `json:"backoff_ms,omitempty" doc:"From the first failure to the second attempt" example:"60000"`
	Factor    *float64                  `json:"factor,omitempty" doc:"Of each further wait to the one before: 1 to 10" example:"2"`
	MaxAgeMS  *int64                    `json:"max_age_ms,omitempty" doc:"Since it was accepted: after that it is not tried any more" example:"21600000"`
	OnSuccess *lambent.AsyncDestination `json:"on_success,omitempty" doc:"Who is told that it did well, as AWS tells a destination: function:NAME, with :QUALIFIER or without; queue:NAME; events, those who have a trigger with a pattern for it; or the URL of a webhook, which is signed as Standard Webhooks has it. Empty: nobody" example:"function:audit"`
	OnFailure *lambent.AsyncDestination `json:"on_failure,omitempty" doc:"Who is told that it is not tried any more, likewise; then it is no dead letter" example:"events"`
}

// A URLRequest changes a URL. What is left out stays.
type URLRequest struct {
	Policy *lambent.URLPolicy `json:"policy,omitempty" doc:"One of none, public, token" example:"public"`
	Stream *bool              `json:"stream,omitempty"`
	CORS   *CORS              `json:"cors,omitempty" doc:"As a whole"`
}

// A DeployEvent is one line of the answer to a client that accepts
// application/x-ndjson: any number with progress, then one with either of the
// others.
type DeployEvent struct {
	Progress string    `json:"progress,omitempty" doc:"What the build says, as it says it"`
	Function *Function `json:"function,omitempty" doc:"The function; the last line"`
	Problem  *Problem  `json:"problem,omitempty" doc:"The refusal; the last line"`
}

type (
	deployInput struct {
		FunctionInput
		Accept string `header:"Accept" hidden:"true"`
		Body   DeployRequest
	}
	deployOutput struct{ Body func(huma.Context) }
)

func (s *service) deployOperation(api huma.API) {
	operation(s, api, huma.Operation{
		OperationID: "deploy", Method: http.MethodPut, Path: "/v1/functions/{name}", Tags: []string{"functions"},
		Summary: "Deploy: make a function, or change it",
		Description: "One change, whole or not at all: the code has been started once on trial before the function is touched, " +
			"and the old one serves until then. A client that accepts application/x-ndjson is told of progress; its status is 200 in any case.",
		MaxBodyBytes: 256 << 10,
		Responses: map[string]*huma.Response{"200": {
			Description: "The function",
			Content: map[string]*huma.MediaType{
				"application/json": {Schema: schema[Function](api)},
				ndjson:             {Schema: schema[DeployEvent](api)},
			},
		}},
	}, s.deploy)
}

func (s *service) deploy(ctx context.Context, in *deployInput) (*deployOutput, error) {
	name, err := in.name(ctx, in.Name, "")
	if err != nil {
		return nil, err
	}
	if strings.Contains(in.Accept, ndjson) {
		return &deployOutput{Body: func(hctx huma.Context) {
			r, w := humago.Unwrap(hctx)
			s.stream(w, r, func(progress io.Writer) (any, error) {
				f, err := s.apply(ctx, name, &in.Body, progress)
				return DeployEvent{Function: f}, err
			})
		}}, nil
	}
	f, err := s.apply(ctx, name, &in.Body, io.Discard)
	if err != nil {
		return nil, err
	}
	return &deployOutput{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		_ = writeJSON(w, f)
	}}, nil
}

// apply carries out a deploy.
func (s *service) apply(ctx context.Context, name lambent.Name, r *DeployRequest, progress io.Writer) (*Function, error) {
	triggers := make([]lambent.Trigger, len(r.Triggers))
	for i := range r.Triggers {
		triggers[i] = r.Triggers[i].root()
		if err := s.Triggers.Check(triggers[i]); err != nil {
			return nil, err
		}
	}
	code, err := s.code(ctx, name, r, progress)
	if err != nil {
		return nil, err
	}
	if r.ExpectRevision != "" { // of a function that is there
		if _, err := s.Control.Get(name); err != nil {
			return nil, err
		}
	}
	edit := func(f *lambent.Function) error {
		if err := s.change(f, r, code); err != nil {
			return err
		}
		if f.Latest.Code == "" && !r.DryRun {
			return lambent.Errorf(lambent.Invalid, "v1.deploy", "function %q is new: its code is needed", name.Function).
				WithHint("lambent deploy DIR --name %s", name)
		}
		return nil
	}
	var f *lambent.Function
	if r.DryRun {
		f, err = s.rehearse(name, edit)
	} else {
		f, err = s.Control.Deploy(ctx, control.DeployRequest{
			Name: name, Edit: edit, Expect: r.ExpectRevision, Publish: r.Publish, Description: r.VersionDescription, Untried: r.Check != nil && !*r.Check,
		})
	}
	if err != nil {
		if f, ok := errors.AsType[*lambent.Fault](err); ok {
			_, _ = io.WriteString(progress, f.Said)
		}
		return nil, err
	}
	if r.Triggers != nil && !r.DryRun {
		if err := s.Triggers.Deploy(ctx, name, triggers); err != nil {
			return nil, err
		}
	}
	out := s.function(f)
	return &out, nil
}

// code returns the code of a deploy, which may have to be built; nil if it brings
// none.
func (s *service) code(ctx context.Context, name lambent.Name, r *DeployRequest, progress io.Writer) (*Code, error) {
	const op = "v1.deploy"
	switch {
	case r.Source == "" && r.Build == "" && r.Code == "" && r.Zip == "":
		return nil, nil
	case r.Code != "" && (r.Source != "" || r.Build != ""):
		return nil, lambent.Errorf(lambent.Invalid, op, "code and source are both given: one is enough")
	case r.Code != "":
		return s.uploaded(r.Code, r.Zip)
	case r.Zip != "":
		return nil, lambent.Errorf(lambent.Invalid, op, "zip is given without code: an upload answers with both")
	case r.Source == "" || r.Build == "":
		return nil, lambent.Errorf(lambent.Invalid, op, "source and build go together: one of them is missing")
	case r.DryRun:
		return nil, nil
	}
	b := BuildRequest{Kind: r.Build, Source: r.Source, Name: name, Fresh: r.Fresh}
	if f, err := s.Control.Get(name); err == nil {
		b.Runtime = f.Latest.Runtime
	}
	if r.Runtime != nil {
		b.Runtime = s.runtime(*r.Runtime, b.Runtime)
	}
	code, err := s.Build(ctx, b, progress)
	if err != nil {
		return nil, err
	}
	return &code, nil
}

// uploaded returns what an earlier upload answered with. Whether the tree is here
// is control's to check.
func (s *service) uploaded(code, zip string) (*Code, error) {
	out := &Code{Digest: code, Zip: zip}
	if zip != "" {
		path, err := s.Zip(zip)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, lambent.Errorf(lambent.NotFound, "v1.deploy", "archive %s is not here any more: upload it again", zip)
		}
		out.ZipBytes = info.Size()
	}
	return out, nil
}

// change applies a request to a function, in memory.
func (s *service) change(f *lambent.Function, r *DeployRequest, code *Code) error {
	c := &f.Latest
	set(&c.Handler, r.Handler)
	if r.Command != nil {
		c.Command = r.Command[:len(r.Command):len(r.Command)]
		if len(r.Command) == 0 {
			c.Command = nil
		}
	}
	set(&c.MemoryMB, r.MemoryMB)
	set(&c.TmpMB, r.TmpMB)
	set(&c.Concurrency, r.Concurrency)
	set(&c.Description, r.Description)
	if r.TimeoutMS != nil {
		c.Timeout = milliseconds(*r.TimeoutMS)
	}
	if r.OnDisconnect != nil {
		c.OnDisconnect = *r.OnDisconnect
		if c.OnDisconnect == lambent.DisconnectContinue {
			c.OnDisconnect = ""
		}
	}
	if r.Env != nil {
		c.Env = r.Env
	}
	if r.Network != nil {
		var err error
		if c.Network, err = lambent.ParseNetwork(strings.Join(r.Network, ",")); err != nil {
			return err
		}
	}
	if r.Runtime != nil {
		c.Runtime = s.runtime(*r.Runtime, c.Runtime)
	}
	if code != nil {
		c.Code, c.CodeZip, c.CodeSize, c.Entries = code.Digest, code.Zip, code.ZipBytes, nil
	}
	if sc := r.Scaling; sc != nil {
		set(&f.Scaling.MinInstances, sc.MinInstances)
		set(&f.Scaling.MaxInstances, sc.MaxInstances)
		if sc.KeepAliveMS != nil {
			f.Scaling.KeepAlive = new(milliseconds(*sc.KeepAliveMS))
			if *sc.KeepAliveMS == -1 {
				f.Scaling.KeepAlive = nil
			}
		}
		if sc.Reserved != nil {
			f.Scaling.Reserved = sc.Reserved
			if *sc.Reserved == -1 {
				f.Scaling.Reserved = nil
			}
		}
	}
	if u := r.URL; u != nil {
		set(&f.URL.Policy, u.Policy)
		set(&f.URL.Stream, u.Stream)
		if u.CORS != nil {
			f.URL.CORS = u.CORS.root()
		}
	}
	if a := r.Async; a != nil {
		set(&f.Async.Attempts, a.Attempts)
		set(&f.Async.Factor, a.Factor)
		set(&f.Async.OnSuccess, a.OnSuccess)
		set(&f.Async.OnFailure, a.OnFailure)
		if a.BackoffMS != nil {
			f.Async.Backoff = milliseconds(*a.BackoffMS)
		}
		if a.MaxAgeMS != nil {
			f.Async.MaxAge = milliseconds(*a.MaxAgeMS)
		}
	}
	// Zero is what a field has before anyone says anything; said, it is a mistake
	// that the default must not hide.
	for _, z := range []struct {
		name string
		said *int
	}{{"memory_mb", r.MemoryMB}, {"tmp_mb", r.TmpMB}, {"concurrency", r.Concurrency}} {
		if z.said != nil && *z.said == 0 {
			return lambent.Errorf(lambent.Invalid, "v1.deploy", "%s is 0: leave it out for the default", z.name)
		}
	}
	if r.TimeoutMS != nil && *r.TimeoutMS == 0 {
		return lambent.Errorf(lambent.Invalid, "v1.deploy", "timeout_ms is 0: leave it out for the default")
	}
	*c = c.WithDefaults()
	return nil
}

func set[T any](field *T, said *T) {
	if said != nil {
		*field = *said
	}
}

// rehearse checks what can be checked of a change without its code, and returns the
// function as it would be.
func (s *service) rehearse(name lambent.Name, edit func(*lambent.Function) error) (*lambent.Function, error) {
	f, err := s.Control.Get(name)
	if lambent.Is(err, lambent.NotFound) {
		f, err = &lambent.Function{Name: name, URL: lambent.URL{Policy: lambent.URLNone}}, nil
	}
	if err == nil {
		err = edit(f)
	}
	if err != nil {
		return nil, err
	}
	c := f.Latest
	if c.Code == "" {
		c.Code = strings.Repeat("0", 64) // it is not there yet, which is all right
	}
	for _, check := range []func() error{
		func() error { return c.Validate(s.Limits) },
		f.Scaling.Validate,
		f.URL.Validate,
		f.Async.Validate,
		func() error { return s.CanRun(&c) },
		func() error { return s.CanKeep(f) },
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// runtime completes a runtime that names no version: the one that the function
// has, if it is of that family and still there, or the newest.
func (s *service) runtime(asked, has string) string {
	newest := asked
	for _, r := range s.Runtimes() { // in order, the newest of a family last
		if r.Family != asked {
			continue
		}
		if r.Name == has {
			return has
		}
		newest = r.Name
	}
	return newest
}
