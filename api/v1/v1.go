// Package v1 is lambent's own API: REST with JSON under /v1/, described by the
// OpenAPI 3.1 document at /v1/openapi.json, which is checked in beside this file.
//
// What it guarantees: every request is authenticated, and held to the project
// that its credential is for; unknown fields, parameters and paths are refused
// by name; every refusal is a problem (RFC 9457) with the kind of the error, one
// line that says what is wrong, and the command that mends it. Archives, payloads
// and logs pass through in bounded memory. An invocation's answer is the
// function's bytes, unchanged.
//
// What it does not do: it listens nowhere, ends no TLS, and does not guard
// against browsers (Host, Origin): the server does, for every face alike. What
// operations mean is control's.
package v1

import (
	"context"
	"io"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/auth"
	"lambent/control"
	"lambent/internal/intake"
	"lambent/logs"
	"lambent/meter"
	"lambent/trigger"
)

// A Config is what the server plugs in. All functions must be there, and may be
// called concurrently.
type Config struct {
	Control *control.Control
	Invoker lambent.Invoker
	Limits  lambent.Limits
	Logger  *slog.Logger // internal errors go there; nil: nowhere
	Intake  *intake.Room // for payloads of calls that are waited for; nil: without a bound

	// Authenticate returns who a request is from. Kind: Unauthenticated.
	Authenticate func(*http.Request) (auth.Identity, error)

	// HasCode, CanRun and CanKeep are those that control has.
	HasCode func(digest string) bool
	CanRun  func(*lambent.Config) error
	CanKeep func(*lambent.Function) error

	// FixedEnv returns the variables of a configuration that only work when its
	// runtime is booted with them.
	FixedEnv func(*lambent.Config) []string

	// Framework says of a configuration for a runtime of Google's whose functions
	// framework runs the code, and when that is loaded; "": there is nothing to say.
	Framework func(*lambent.Config) string

	// PutCode stores an archive. Zip returns the file of one that is stored.
	PutCode func(context.Context, io.Reader) (Code, error)
	Zip     func(digest string) (path string, err error)

	// Build makes what can run out of source that is stored. What the tools say goes to
	// progress.
	Build func(ctx context.Context, r BuildRequest, progress io.Writer) (Code, error)

	// BuildLog returns what a function's last build has said.
	BuildLog func(lambent.Name) (io.ReadCloser, error)

	// Closing is closed when the server begins to shut down: whoever follows a log
	// is let go. nil: never.
	Closing <-chan struct{}

	// Keys has the projects' tokens and access keys.
	Keys *auth.Keys

	Logs   *logs.Logs
	Ledger *meter.Ledger

	// Triggers has the triggers, and the invocations that are not tried any more.
	Triggers *trigger.Broker

	// Notify takes what buckets elsewhere tell of, and returns how many events there are.
	Notify func(ctx context.Context, project string, document []byte) (int, error)

	// FunctionURL returns the address of a function's URL.
	FunctionURL func(lambent.Name) string

	// Runtimes are what functions can run on, sorted, the newest of a family last.
	Runtimes func() []Runtime

	// AddRuntime brings one, out of tar unless that is nil. RemoveRuntime takes what
	// was added away again, from functions too where forced.
	AddRuntime    func(ctx context.Context, r RuntimeRequest, tar io.Reader, progress io.Writer) (*Runtime, error)
	RemoveRuntime func(ctx context.Context, name string, force bool) error

	Server func() Server
}

// service holds what the operations share.
type service struct {
	Config
	mux     *http.ServeMux
	openAPI []byte
}

// New returns the handler of everything under /v1/.
func New(c Config) http.Handler {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &service{Config: c, mux: http.NewServeMux()}
	api := s.newAPI()
	s.codeOperations(api)
	s.notificationOperation(api)
	s.webhookOperation(api)
	s.functionOperations(api)
	s.versionOperations(api)
	s.aliasOperations(api)
	s.projectOperations(api)
	s.tokenOperations(api)
	s.invokeOperations(api)
	s.deadLetterOperations(api)
	s.triggerOperations(api)
	s.eventOperations(api)
	s.logOperations(api)
	s.usageOperations(api)
	s.serverOperations(api)
	s.runtimeOperations(api)
	s.openAPI = document(api)
	s.plain(api, &huma.Operation{
		OperationID: "openapi", Method: http.MethodGet, Path: "/v1/openapi.json", Hidden: true,
	}, auth.RoleInvoke, func(w http.ResponseWriter, _ *http.Request, _ string) error {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, err := w.Write(s.openAPI)
		return gone(err)
	})
	s.mux.HandleFunc("/", s.noRoute)
	return s.mux
}
