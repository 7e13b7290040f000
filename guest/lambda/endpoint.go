package lambda

import (
	"maps"
	"net"
	"strings"

	"lambent"
	"lambent/sandbox"
)

// An Endpoint is where AWS's clients in a sandbox find AWS's services.
type Endpoint struct {
	Env   map[string]string // by which they find it, and are known there
	Close func() error      // ends what is under way there, too
}

// A Caller is who asks something at an endpoint.
type Caller struct {
	Function lambent.Name
	Hops     int // functions that led to what is asked, this one among them
}

// Who returns whose code asks something at an endpoint now, by the header of X-Ray that AWS's
// clients send for an invocation. Kinds: Unavailable, Forbidden.
type Who func(trace string) (Caller, error)

// openEndpoint opens the endpoint of a sandbox, while nobody waits for that.
func (in *instance) openEndpoint(open func(sandbox string, l net.Listener, who Who) Endpoint) error {
	l, err := in.sandbox.Listen(sandbox.Endpoint)
	if err == nil {
		in.endpoint = open(in.sandbox.ID(), l, in.caller)
	}
	return err
}

// caller is the instance's Who.
func (in *instance) caller(trace string) (Caller, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.name == lambent.Name{}:
		return Caller{}, lambent.Errorf(lambent.Unavailable, "lambda.Endpoint", "there is no function in this sandbox")
	case !in.known:
		return Caller{}, lambent.Errorf(lambent.Forbidden, "lambda.Endpoint", "function %s says itself who it is to AWS's clients: it is not known here", in.name.Function)
	}
	return Caller{in.name, in.hopsLocked(trace) + 1}, nil
}

// hopsLocked is how many functions have led to the invocation that asks something: to the
// one of that trace or, where that is none's, to whichever under way the most have led to;
// code that goes on after its answer is taken for that of the last one.
func (in *instance) hopsLocked(trace string) int {
	root, named, most := traceRoot(trace), -1, -1
	for _, cl := range in.calls {
		most = max(most, cl.hops)
		if root != "" && cl.root == root {
			named = max(named, cl.hops)
		}
	}
	switch {
	case named >= 0:
		return named
	case most >= 0:
		return most
	}
	return in.last
}

// addEndpoint adds to an environment what leads to the endpoint, unless the function says
// itself where AWS's clients are to go, or who they are: then nothing of it is there, and
// what is sent to the endpoint all the same is refused.
func (in *instance) addEndpoint(env map[string]string) {
	u := in.unit
	known := !saysWho(u.Revision.Config.Env) && !saysWho(u.Secrets)
	in.mu.Lock()
	in.name, in.known = u.Revision.Name, known
	in.mu.Unlock()
	if known {
		maps.Copy(env, in.endpoint.Env)
	}
}

// ofWho are the beginnings of variables that AWS's clients take the place that they go to
// from, or who they are.
var ofWho = []string{
	"AWS_ENDPOINT_URL", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_ACCESS_KEY", "AWS_SECRET_", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_",
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_",
}

func saysWho(env map[string]string) bool {
	for name := range env {
		for _, beginning := range ofWho {
			if strings.HasPrefix(name, beginning) {
				return true
			}
		}
	}
	return false
}
