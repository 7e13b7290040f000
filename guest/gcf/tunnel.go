package gcf

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/internal/http1"
)

// asked reports whether a response switches to the protocol that its client wants.
func (x *exchange) asked(head *http1.Response) bool {
	if x.inv.HTTP == nil || x.inv.HTTP.Upgrade == "" {
		return false
	}
	for name, value := range head.All() {
		if strings.EqualFold(string(name), "Upgrade") {
			return strings.EqualFold(string(value), x.inv.HTTP.Upgrade)
		}
	}
	return false
}

// tunnel passes on what the code and the client say to each other in the protocol that
// they have switched to, until both have ended: the invocation takes as long. Who ends
// is told of to the other, and code that has is not held for long by a client that has
// not. Who breaks off, the deadline, and the instance's end cut both. That the deadline
// comes is nothing that the code has done wrong: it serves on.
func (x *exchange) tunnel(ctx context.Context, head *http1.Response) error {
	client, err := x.out.(lambent.Switcher).Switch(answerHeader(head))
	if err != nil {
		return x.end(ctx, lambent.Result{Fault: x.in.Fault(lambent.FaultCanceled, x.inv)})
	}
	code := x.c.Switch()
	cut := func() { code.Close(); client.Close() }
	x.stop()
	x.stop = context.AfterFunc(ctx, cut)
	var once sync.Once
	clientFirst := false // it is the client that has ended, or broken off
	end := func(client bool) { once.Do(func() { clientFirst = client }) }
	ends := make(chan struct{}, 2)
	go func() { pass(code, client, func(to bool) { end(!to) }, cut); ends <- struct{}{} }()
	go func() { pass(client, code, func(to bool) { end(to) }, cut); ends <- struct{}{} }()
	select {
	case <-ends:
		end(false) // it is decided: nobody writes it any more
		if !clientFirst {
			defer time.AfterFunc(grace, cut).Stop()
		}
		select {
		case <-ends:
		case <-x.in.dead:
			cut()
			<-ends
		}
	case <-x.in.dead:
		end(false)
		cut()
		<-ends
		<-ends
	}
	_ = x.drop()
	var res lambent.Result
	switch {
	case ctx.Err() == nil && !clientFirst && x.in.crashed(ctx):
		return errEnded
	case x.stop(): // it was over in time
	case ctx.Err() == context.DeadlineExceeded:
		res.Fault = x.in.Fault(lambent.FaultTimeout, x.inv)
	default:
		return ctx.Err()
	}
	x.out.End(res)
	return nil
}

// pass writes to one what comes from another, and how it ends: which of the two has is
// said first.
func pass(to lambent.Conn, from io.Reader, ended func(to bool), cut func()) {
	buf := make([]byte, 8<<10) // most that pass wait for most of the time
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				ended(true)
				cut()
				return
			}
		}
		if err == nil {
			continue
		}
		ended(false)
		if err != io.EOF || to.CloseWrite() != nil {
			cut()
		}
		return
	}
}

// portCloses is how long a process that ends may seem to let others in.
const portCloses = 50 * time.Millisecond

// crashed reports whether the process has ended, of which a connection has, unless it
// was asked to: one that lets others in has not.
func (in *instance) crashed(ctx context.Context) bool {
	in.mu.Lock()
	asked := in.asked
	in.mu.Unlock()
	if asked {
		return false
	}
	if c, err := in.sandbox.Dial(ctx, in.port, 0); err == nil {
		// The kernel may close a process's port after its connections: then whoever was let
		// in meanwhile is put out again.
		_ = c.SetReadDeadline(time.Now().Add(portCloses))
		_, err := c.Read(make([]byte, 1))
		c.Close()
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	seen := time.NewTimer(lastWords)
	defer seen.Stop()
	select {
	case <-in.sandbox.Done():
		in.fail()
		return true
	case <-seen.C:
		return false
	}
}
