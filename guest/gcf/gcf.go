// Package gcf is the guest for code written for Google Cloud Functions, and for any
// web server: a process that listens on $PORT
// (https://cloud.google.com/run/docs/container-contract). Nothing of Google's
// functions framework is emulated: it is a dependency of the code, and what answers
// here. So a program that answers by itself is served as well.
//
// The code is pushed its work: requests go to it as they came, over connections that
// are kept, as many at a time as the function's concurrency allows, and responses come
// back as they are written. An event is a POST in the binary mode of CloudEvents
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md);
// what is answered outside of 2xx is then the function's failure.
//
// Bodies that are not small are passed on as they come, both ways, with what trails
// them, and so is all that is said once the code has taken an upgrade to WebSocket.
package gcf

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/sandbox"
)

var (
	_ guest.Guest    = (*Guest)(nil)
	_ guest.Checker  = (*Guest)(nil)
	_ guest.Streamer = (*Guest)(nil)
	_ guest.Chooser  = (*Guest)(nil)
)

// signatures are what the framework knows. A function that registers itself says so by
// that, and what is said here does not count.
var signatures = []string{"http", "event", "cloudevent", "typed"}

// maxEventTimeout is how long a function may take for an event. It is known for one only
// if its signature is said, and not by what it registers itself as.
const maxEventTimeout = 540 * time.Second

const signatureVariable = "FUNCTION_SIGNATURE_TYPE"

// A Guest attaches to sandboxes.
type Guest struct {
	// Limits bound payloads, and the time that code has to listen.
	Limits lambent.Limits

	comparisons comparisons
}

// Check implements guest.Checker.
func (g *Guest) Check(c *lambent.Config, rt lambent.Runtime) error {
	const op = "gcf.Check"
	if c.Timeout > g.Limits.MaxServerTimeout {
		return lambent.Errorf(lambent.Invalid, op, "timeout %v is outside 1ms to %v, as on Cloud Run", c.Timeout, g.Limits.MaxServerTimeout)
	}
	if len(c.Command) == 0 && len(rt.Boot) == 0 && len(rt.LateBoot) == 0 {
		return lambent.Errorf(lambent.Invalid, op, "runtime %s runs a command, and none is given", rt.Name).WithHint("lambent deploy --command 'PROGRAM ARGUMENTS'")
	}
	if strings.Contains(c.Handler, "::") {
		return lambent.Errorf(lambent.Unsupported, op, "handler %.70q is one of Lambda's for Java, which are not in this release", c.Handler)
	}
	s, ok := c.Env[signatureVariable]
	if ok && !slices.Contains(signatures, s) {
		return lambent.Errorf(lambent.Invalid, op, "signature type %.70q: one of %s", s, strings.Join(signatures, ", "))
	}
	if (s == "event" || s == "cloudevent") && c.Timeout > maxEventTimeout {
		return lambent.Errorf(lambent.Invalid, op, "timeout %v is over the limit of %v for a function of events, as on Google's", c.Timeout, maxEventTimeout).
			WithHint("lambent deploy --timeout %v", maxEventTimeout)
	}
	return nil
}

// Streams implements guest.Streamer.
func (g *Guest) Streams(lambent.Runtime) bool { return true }

// agentHello is what an agent says once it is booted (runtimes/DESIGN.md).
const agentHello = "LAMBENT/1\n"

var errGreeting = errors.New("that is another protocol")

// Attach implements guest.Guest: it waits for the framework's agent, where there is one.
func (g *Guest) Attach(ctx context.Context, sb sandbox.Sandbox, rt lambent.Runtime) (guest.Instance, error) {
	in := newInstance(sb, rt, g.Limits)
	agent := sb.Agent()
	if agent == nil || rt.BootLate {
		return in, nil
	}
	stop := context.AfterFunc(ctx, func() { sb.Destroy() })
	hello := make([]byte, len(agentHello))
	n, err := io.ReadFull(agent, hello)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err == nil && string(hello) != agentHello {
		err = errGreeting
	}
	if err != nil {
		return nil, lambent.Errorf(lambent.Internal, "gcf.Attach", "the agent of %s does not get ready: it said %q: %w", rt.Name, hello[:n], err)
	}
	in.agent = agent
	return in, nil
}
