// Package aws is the face for AWS's clients: requests that are signed with an access
// key (SigV4) are answered as the service would that the signature names, on the same
// port as everything else. Who signs is the key's project; account and region are taken
// as they come.
//
// What it guarantees: nothing of a service is reached by a request whose signature is not
// that of a key that is known, in time; a refusal has AWS's word for it, in the form that
// the client's protocol has (JSON, query, S3's XML), and one line that says what is wrong.
//
// What it does not do: it decides nothing that is not AWS's protocol. What a message or an
// event is, and what becomes of it, the core says. Which hosts are ours is the server's.
package aws

import (
	"crypto/subtle"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"lambent"
	"lambent/auth"
	"lambent/internal/intake"
	"lambent/internal/sigv2"
	"lambent/internal/sigv4"
)

// A Caller is who asks something of a service.
type Caller struct {
	auth.Identity
	Hops  int    // functions that led to the request, for loop detection
	Trace string // that the request is of: X-Ray's header, which AWS's clients in functions send
}

// A Service answers requests of one of AWS's services, that were signed by who. It returns
// an error only while nothing has been answered: the face words it. The body is what was
// signed, and an error of reading it is one to return.
type Service func(w http.ResponseWriter, r *http.Request, who Caller) error

// A Config is what the server plugs in. All of it must be there, and may be called
// concurrently.
type Config struct {
	// AccessKey returns the access key of an id. Kind: Unauthenticated.
	AccessKey func(id string) (auth.AccessKey, error)

	Services map[string]Service // by their names in signatures, such as s3
	Logger   *slog.Logger       // internal errors go there; nil: nowhere
	Intake   *intake.Room       // for Lambda's payloads; nil: without a bound
}

// maxBody bounds what is held in memory to be hashed: S3's clients say the hash before.
const maxBody = 4 << 20

// A Face answers signed requests: all for which [IsSigned] holds.
type Face struct {
	Config
	names  string // of the services
	hops   int    // of who asks
	memory *semaphore.Weighted
}

// IsSigned reports whether a request is one for the handler that New returns.
func IsSigned(r *http.Request) bool { return sigv4.IsSigned(r) || sigv2.IsPresigned(r) }

// New returns the face of some services.
func New(c Config) *Face {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Face{Config: c, names: strings.Join(slices.Sorted(maps.Keys(c.Services)), ", ")}
}

// For is the same face for who has one access key, and knows no other; so many functions
// have led to what is asked. Bodies that are held are taken out of memory, of which there
// are 4 MB at least: who finds no room waits.
func (f *Face) For(k auth.AccessKey, hops int, memory *semaphore.Weighted) *Face {
	c := f.Config
	c.AccessKey = func(id string) (auth.AccessKey, error) {
		if id != k.ID {
			return auth.AccessKey{}, lambent.Errorf(lambent.Unauthenticated, "aws", "access key %.40q is not the one that is known here, %s", id, k.ID)
		}
		return k, nil
	}
	return &Face{c, f.names, hops, memory}
}

// ServeHTTP implements http.Handler.
func (f *Face) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(requestIDHeader, lambent.NewID())
	if !sigv4.IsSigned(r) {
		if err := f.servePresigned(w, r); err != nil {
			f.refuse(w, r, s3Protocol, err)
		}
		return
	}
	signature, err := sigv4.Parse(r)
	if err != nil {
		f.refuse(w, r, protocolOf(r, ""), err)
		return
	}
	if err := f.serve(w, r, signature); err != nil {
		f.refuse(w, r, protocolOf(r, signature.Service), err)
	}
}

func (f *Face) serve(w http.ResponseWriter, r *http.Request, signature *sigv4.Signature) error {
	service := f.Services[signature.Service]
	if service == nil {
		return lambent.Errorf(lambent.Unsupported, "aws", "%.40q is not among the services of AWS's that this server has: %s", signature.Service, f.names)
	}
	key, err := f.key(signature.AccessKey, signature.SessionToken)
	if err != nil {
		return err
	}
	switch signature.Service {
	case "s3":
	case "lambda":
		body := f.Intake.Body(key.Who.Project, r.Body)
		defer body.Release()
		r.Body = http.MaxBytesReader(w, &body, maxInvokeBody)
	default:
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		release, err := f.room(r)
		if err != nil {
			return err
		}
		defer release()
	}
	if err := signature.Verify(r, key.Secret, time.Now()); err != nil {
		return err
	}
	return service(w, r, f.caller(r, key))
}

// room waits until there is some for a request's body.
func (f *Face) room(r *http.Request) (release func(), err error) {
	if f.memory == nil || r.ContentLength == 0 {
		return func() {}, nil
	}
	n := min(r.ContentLength, maxBody)
	if n < 0 { // it does not say
		n = maxBody
	}
	if err := f.memory.Acquire(r.Context(), n); err != nil {
		return nil, lambent.Errorf(lambent.Canceled, "aws", "given up: %w", err)
	}
	return func() { f.memory.Release(n) }, nil
}

// servePresigned answers for S3 what was presigned in its older form.
func (f *Face) servePresigned(w http.ResponseWriter, r *http.Request) error {
	key, err := f.key(sigv2.AccessKey(r), sigv2.SessionToken(r))
	if err == nil {
		err = sigv2.Verify(r, key.Secret, time.Now())
	}
	if err != nil {
		return err
	}
	return f.Services["s3"](w, r, f.caller(r, key))
}

func (f *Face) caller(r *http.Request, key auth.AccessKey) Caller {
	return Caller{key.Who, f.hops, r.Header.Get("X-Amzn-Trace-Id")}
}

// key is the access key of an id, which comes with the session token that it has.
func (f *Face) key(id, session string) (auth.AccessKey, error) {
	key, err := f.AccessKey(id)
	if err != nil || subtle.ConstantTimeCompare([]byte(key.Session), []byte(session)) == 1 {
		return key, err
	}
	why := "without its session token, AWS_SESSION_TOKEN, or with another's"
	if key.Session == "" {
		why = "with a session token, and has none: unset AWS_SESSION_TOKEN"
	}
	return key, because(sigv4.ReasonNoSession, lambent.Errorf(lambent.Unauthenticated, "aws", "access key %.40s comes %s", id, why))
}

// because gives an error AWS's word for it.
func because(reason string, e *lambent.Error) error {
	e.Reason = reason
	return e
}

// allow refuses who may not do what needs a role.
func allow(who Caller, need auth.Role) error {
	if !who.Allows(who.Project, need) {
		return lambent.Errorf(lambent.Forbidden, "aws", "access key %s is for role %q: this needs %q", who.Token, who.Role, need)
	}
	return nil
}
