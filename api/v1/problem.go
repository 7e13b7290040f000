package v1

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
)

// statuses is how every kind of error looks over HTTP. There is no other place
// that decides a status.
var statuses = map[lambent.Kind]int{
	lambent.Internal:        http.StatusInternalServerError,
	lambent.Invalid:         http.StatusBadRequest,
	lambent.NotFound:        http.StatusNotFound,
	lambent.Exists:          http.StatusConflict,
	lambent.Stale:           http.StatusPreconditionFailed,
	lambent.TooLarge:        http.StatusRequestEntityTooLarge,
	lambent.Throttled:       http.StatusTooManyRequests,
	lambent.Unauthenticated: http.StatusUnauthorized,
	lambent.Forbidden:       http.StatusForbidden,
	lambent.Unavailable:     http.StatusServiceUnavailable,
	lambent.Unsupported:     http.StatusNotImplemented,
	lambent.NoSpace:         http.StatusInsufficientStorage,
	lambent.Broken:          http.StatusUnprocessableEntity,
	lambent.Canceled:        499, // as nginx has it; nobody is there to read it
}

// A Problem is a refusal, as RFC 9457 has it.
type Problem struct {
	Title  string `json:"title" doc:"The status in words" example:"Not Found"`
	Status int    `json:"status" doc:"The HTTP status" example:"404"`
	Kind   string `json:"kind" doc:"The class of the failure: what programs should look at" enum:"internal,invalid,not_found,exists,stale,too_large,throttled,unauthenticated,forbidden,unavailable,unsupported,no_space,broken,canceled" example:"not_found"`
	Detail string `json:"detail" doc:"What is wrong, in one line" example:"function \"thumbs\" does not exist in project \"default\""`
	Hint   string `json:"hint,omitempty" doc:"The one command that mends it" example:"lambent list"`

	Reason string `json:"reason,omitempty" doc:"Why a call is throttled, where AWS has a word for it" example:"ConcurrentInvocationLimitExceeded"`

	retryAfterS int
}

// newProblem translates an error for a stranger.
func newProblem(err error) *Problem {
	kind := lambent.KindOf(err)
	p := &Problem{Status: statuses[kind], Kind: kind.String(), Detail: oneLine(lambent.UserMessage(err))}
	if p.Title = http.StatusText(p.Status); p.Title == "" {
		p.Title = "Client Closed Request"
	}
	if e, ok := errors.AsType[*lambent.Error](err); ok && kind != lambent.Internal {
		p.Hint = oneLine(e.Hint)
		p.Reason = e.Reason
	}
	p.retryAfterS = lambent.RetrySeconds(err)
	return p
}

// oneLine keeps control characters, which may come from a function or a file
// name, out of a line that ends on a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// Error, GetStatus, GetHeaders and ContentType make huma write a Problem as one.

func (p *Problem) Error() string             { return p.Detail }
func (p *Problem) GetStatus() int            { return p.Status }
func (p *Problem) ContentType(string) string { return "application/problem+json" }
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfterS > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfterS))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	return h
}

// problem translates an error, and logs one that is ours to mend.
func (s *service) problem(r requestLine, err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if lambent.KindOf(err) == lambent.Internal {
		s.Logger.Error("a request failed", "method", r.method, "path", r.path, "error", err)
	}
	return newProblem(err)
}

// A requestLine names a request in the server's log.
type requestLine struct{ method, path string }

func lineOf(r *http.Request) requestLine { return requestLine{r.Method, r.URL.Path} }

// refuse answers with an error.
func (s *service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	s.writeProblem(w, s.problem(lineOf(r), err))
}

func (s *service) writeProblem(w http.ResponseWriter, p *Problem) {
	h := w.Header()
	for k, v := range p.GetHeaders() {
		h[k] = v
	}
	h.Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that is gone needs no answer
}

// noRoute answers for whatever no operation does: it is the route that any path
// and method lead to in the end.
func (s *service) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	other := &http.Request{Host: r.Host, URL: r.URL}
	for _, other.Method = range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if _, pattern := s.mux.Handler(other); pattern != "/" {
			allowed = append(allowed, other.Method)
		}
	}
	if allowed == nil {
		s.refuse(w, r, lambent.Errorf(lambent.NotFound, "v1", "there is no %.200s: /v1/openapi.json has the list", r.URL.Path))
		return
	}
	allow := strings.Join(allowed, ", ")
	w.Header().Set("Allow", allow)
	p := newProblem(lambent.Errorf(lambent.Invalid, "v1", "%.20s is not a method of %.200s: it has %s", r.Method, r.URL.Path, allow))
	p.Status, p.Title = http.StatusMethodNotAllowed, http.StatusText(http.StatusMethodNotAllowed)
	s.writeProblem(w, p)
}

// A humaContext lets a translated problem have another status than the error
// that huma found: its refusals of input are 422 or 400, ours are one kind.
type humaContext struct {
	inner
	status int // that overrides; 0: none
}

type inner = huma.Context // embedded under a name that is not one of its methods'

// SetStatus implements huma.Context.
func (c *humaContext) SetStatus(status int) {
	if c.status != 0 {
		status = c.status
	}
	c.inner.SetStatus(status)
}

// Unwrap lets the adapter reach its own context.
func (c *humaContext) Unwrap() huma.Context { return c.inner }

// translate is a transformer of huma's: what it finds wrong with a request
// becomes a Problem.
func translate(ctx huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	kind := lambent.Invalid
	switch {
	case e.Status == http.StatusRequestEntityTooLarge:
		kind = lambent.TooLarge
	case e.Status >= 500:
		kind = lambent.Internal
	}
	what := e.Detail
	if len(e.Errors) > 0 {
		what = ""
		for i, d := range e.Errors {
			if i == 3 {
				what += fmt.Sprintf("; and %d more", len(e.Errors)-i)
				break
			}
			if i > 0 {
				what += "; "
			}
			where := strings.TrimPrefix(strings.TrimPrefix(d.Location, "body."), "query.")
			what += fmt.Sprintf("%.100s: %.200s", where, d.Message)
		}
	}
	p := newProblem(lambent.Errorf(kind, "v1", "%s", what))
	if c, ok := ctx.(*humaContext); ok {
		c.status = p.Status
	}
	return p, nil
}
