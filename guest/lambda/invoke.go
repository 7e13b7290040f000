package lambda

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/internal/http1"
)

// errEnded is returned when the process ended, or said something that makes no
// sense, while it had an invocation. dispatch asks Fault for the words.
var errEnded = errors.New("lambda: the runtime ended during the invocation")

// Invoke implements guest.Instance.
func (in *instance) Invoke(ctx context.Context, inv *lambent.Invocation, out lambent.Reply) error {
	cl := &call{id: inv.ID, hops: inv.Hops, response: make(chan *response, 1)}
	if err := in.hand(ctx, cl, inv); err != nil {
		return err
	}
	select {
	case r := <-cl.response:
		return in.relay(ctx, inv, r, out)
	case <-ctx.Done():
		in.abandon(cl)
		return ctx.Err()
	case <-in.dead:
	}
	select { // the process may have answered and then ended
	case r := <-cl.response:
		return in.relay(ctx, inv, r, out)
	default:
		in.abandon(cl)
		return errEnded
	}
}

// events holds buffers for events of up to pooledBody bytes.
var events = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// hand gives the code an invocation.
func (in *instance) hand(ctx context.Context, cl *call, inv *lambent.Invocation) error {
	buf := events.Get().(*[]byte)
	defer events.Put(buf)
	trace := traceID(inv)
	cl.root = traceRoot(trace)
	event, err := in.event((*buf)[:0], inv, trace)
	if err != nil {
		return err
	}
	if inv.HTTP != nil && cap(event) <= pooledBody {
		*buf = event
	}
	w, err := in.take(ctx, cl)
	if err != nil {
		return err
	}
	if err := in.deliver(ctx, w, inv, event, trace); err != nil {
		if in.unit.Revision.Config.Concurrency <= 1 {
			in.end()
		}
		in.abandon(cl) // the others may end
		return guest.ErrNotDelivered
	}
	return nil
}

// deliver writes an invocation to a connection that waits, behind whatever
// answers were held back there.
func (in *instance) deliver(ctx context.Context, w *http1.Writer, inv *lambent.Invocation, event []byte, trace string) error {
	defer w.Recycle()
	w.Begin(http.StatusOK)
	w.Header("Content-Type", "application/json")
	w.Header("Lambda-Runtime-Aws-Request-Id", inv.ID)
	if deadline, ok := ctx.Deadline(); ok {
		w.Header("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(deadline.UnixMilli(), 10))
	}
	if inv.Target.Qualifier == "" {
		w.Header("Lambda-Runtime-Invoked-Function-Arn", in.arn)
	} else {
		w.Header("Lambda-Runtime-Invoked-Function-Arn", inv.Target.ARN())
	}
	w.Header("Lambda-Runtime-Trace-Id", trace)
	if len(inv.ClientContext) > 0 {
		w.Header("Lambda-Runtime-Client-Context", string(inv.ClientContext))
	}
	if err := w.Body(event); err != nil {
		return err
	}
	return w.Flush()
}

// relay turns what the code posted into the reply.
func (in *instance) relay(ctx context.Context, inv *lambent.Invocation, r *response, out lambent.Reply) error {
	switch {
	case r.fault != nil:
		out.End(lambent.Result{Fault: r.fault})
	case r.conn != nil:
		return in.relayStream(ctx, inv, r, out)
	case inv.HTTP != nil:
		relayHTTP(r.body, out)
	default:
		header := map[string][]string{"Content-Type": {"application/json"}, "Content-Length": {strconv.Itoa(len(r.body))}}
		if out.Begin(http.StatusOK, header) == nil {
			_, _ = out.Write(r.body) // a caller who is gone changes nothing for the code
		}
		var result lambent.Result
		if len(inv.Events) > 0 && !single(inv.Source) {
			result.FailedItems = failedItems(inv, r.body)
		}
		out.End(result)
	}
	if cap(r.body) > 0 && cap(r.body) <= pooledBody {
		bodies.Put(&r.body)
	}
	return nil
}

// relayStream passes a streamed response on as it comes. A client that is slow
// slows the code; one that is gone does not stop it.
func (in *instance) relayStream(ctx context.Context, inv *lambent.Invocation, r *response, out lambent.Reply) error {
	defer close(r.read)
	stop := context.AfterFunc(ctx, func() { _ = r.conn.Net().SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	end := func(f *lambent.Fault) error { // what a caller takes from here on is not the code's time
		if !stop() {
			return ctx.Err()
		}
		out.End(lambent.Result{Fault: f})
		return nil
	}

	body := r.conn.Stream()
	status, header := http.StatusOK, map[string][]string{"Content-Type": {"application/octet-stream"}}
	if r.contentType != "" {
		header["Content-Type"][0] = r.contentType
	}
	var chunk []byte
	if inv.HTTP != nil && r.contentType == integrationResponse {
		var err error
		if status, header, chunk, err = readPrelude(body); err != nil && ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			f := streamFault(r.conn)
			if f == nil {
				f = newFault(lambent.FaultHandler, "Runtime.InvalidResponse", "", err.Error())
			}
			return end(f)
		}
	}
	gone := out.Begin(status, header) != nil
	buf := make([]byte, 32<<10)
	for total := int64(0); ; {
		if len(chunk) > 0 && !gone {
			_, err := out.Write(chunk)
			gone = err != nil
		}
		if total += int64(len(chunk)); total > in.limits.MaxStream {
			err := end(tooBig(int(in.limits.MaxStream)))
			in.end() // the rest of the stream has nowhere to go
			return err
		}
		n, err := body.Read(buf)
		if err == io.EOF {
			break
		} else if err != nil {
			return in.broken(ctx)
		}
		chunk = buf[:n]
	}
	return end(streamFault(r.conn))
}

// broken is the error for a stream that ends in the middle: the deadline's, or
// the process's end.
func (in *instance) broken(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return errEnded
}
