// Package lambda is the guest for code written for AWS Lambda: it serves the
// Runtime API (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html),
// builds the environment that AWS documents, and shapes HTTP requests and answers
// as function URLs do (payload format 2.0).
//
// The code pulls its work: a runtime client asks for the next invocation, and
// posts the response. Our own agents say the same over the connection that they
// were booted with, where they serve one at a time; other programs connect to
// AWS_LAMBDA_RUNTIME_API, as often as they take several. The server
// of it is a hand-written state machine, see [instance] and the package http1.
package lambda

import (
	"context"
	"errors"
	"io"
	"net"

	"lambent"
	"lambent/guest"
	"lambent/internal/http1"
	"lambent/sandbox"
)

var (
	_ guest.Guest   = (*Guest)(nil)
	_ guest.Checker = (*Guest)(nil)
	_ guest.Batcher = (*Guest)(nil)
)

// agentHello is what an agent says once it is booted (runtimes/DESIGN.md).
const agentHello = "LAMBENT/1\n"

var errGreeting = errors.New("that is another protocol")

// A Guest attaches to sandboxes.
type Guest struct {
	// Limits bound payloads; the response limit is AWS's 100 bytes over MaxPayload.
	Limits lambent.Limits

	// Endpoint has AWS's clients in a sandbox answered, at a listener that is open inside.
	// nil: there is no endpoint, and nothing of one in the code's environment.
	Endpoint func(sandbox string, l net.Listener, who Who) Endpoint
}

// Check implements guest.Checker.
func (g *Guest) Check(c *lambent.Config, rt lambent.Runtime) error {
	const op = "lambda.Check"
	if c.Timeout > g.Limits.MaxTimeout {
		return lambent.Errorf(lambent.Invalid, op, "timeout %v is outside 1ms to %v, as on Lambda", c.Timeout, g.Limits.MaxTimeout)
	}
	if len(c.Command) > 0 {
		return lambent.Errorf(lambent.Invalid, op, "runtime %s loads a handler, and runs no command: runtimes of web servers do", rt.Name).
			WithHint("lambent runtime list")
	}
	return nil
}

// Batches implements guest.Batcher.
func (g *Guest) Batches() bool { return true }

// Attach implements guest.Guest.
func (g *Guest) Attach(ctx context.Context, sb sandbox.Sandbox, rt lambent.Runtime) (guest.Instance, error) {
	in := newInstance(sb, rt, g.Limits)
	err := in.attach(ctx)
	if err == nil && g.Endpoint != nil {
		err = in.openEndpoint(g.Endpoint)
	}
	if err != nil {
		in.end()
		return nil, err
	}
	return in, nil
}

// attach waits for the agent, or opens the Runtime API for a program that has no agent.
func (in *instance) attach(ctx context.Context) error {
	const op = "lambda.Attach"
	if in.runtime.BootLate {
		return nil
	}
	if agent := in.sandbox.Agent(); agent != nil {
		stop := context.AfterFunc(ctx, func() { in.sandbox.Destroy() })
		hello := make([]byte, len(agentHello))
		n, err := io.ReadFull(agent, hello)
		if !stop() {
			return context.Cause(ctx)
		}
		if err == nil && string(hello) != agentHello {
			err = errGreeting
		}
		if err != nil {
			return lambent.Errorf(lambent.Internal, op, "the agent of %s does not get ready: it said %q: %w", in.runtime.Name, hello[:n], err)
		}
		return nil
	}
	return in.openAPI()
}

// openAPI opens the Runtime API to whoever connects.
func (in *instance) openAPI() error {
	l, err := in.sandbox.Listen(sandbox.RuntimeAPI)
	if err != nil {
		return err
	}
	in.listener, in.api = l, l.Addr().String()
	go in.accept(l)
	return nil
}

// accept serves the connections of programs that bring their own client.
func (in *instance) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		if tcp, ok := nc.(*net.TCPConn); ok {
			_ = tcp.SetNoDelay(true)
		}
		c := http1.NewConn(nc)
		if !in.track(c) {
			nc.Close()
			return
		}
		go in.serve(c)
	}
}
