package gcf

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"syscall"
	"time"

	"lambent"
	"lambent/guest"
	"lambent/internal/http1"
)

var (
	// errEnded is returned when the process ended while it had an invocation. dispatch
	// asks Fault for the words.
	errEnded = errors.New("gcf: the process ended during the invocation")

	errTooLong = errors.New("the response is over the limit")

	errSwitch = errors.New("it was switched to another protocol, which nobody asked for")
)

const (
	// quick is a body that is sent before the response is looked for: it fits into the
	// connection, whether the server reads it or not.
	quick = 16 << 10

	// lastWords is how long after a broken connection the process is seen to end, if
	// that is what broke it.
	lastWords = 200 * time.Millisecond
)

// buffers holds what bodies are passed on in.
var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// Invoke implements guest.Instance.
func (in *instance) Invoke(ctx context.Context, inv *lambent.Invocation, out lambent.Reply) error {
	r, err := in.request(inv)
	if err != nil {
		return err
	}
	var closed *exchange // the last one whose connection ended before its answer
	for {
		c, used, err := in.take(ctx)
		if err == nil {
			x := &exchange{in: in, c: c, r: r, inv: inv, out: out}
			switch err = x.run(ctx); {
			case used && errors.Is(err, guest.ErrNotDelivered): // it was closed for its age
				continue
			case used && errors.Is(err, errUnanswered) && r.safe() && closed == nil: // once: the code may do it each time
				closed = x
				in.closeIdle() // which are as old
				continue
			case errors.Is(err, errUnanswered):
				return x.broken(ctx, brokeOff(io.EOF, "before its response began"))
			}
		}
		if closed != nil && errors.Is(err, guest.ErrNotDelivered) { // the process ended, and may have by this request
			return closed.broken(ctx, brokeOff(io.EOF, "before its response began"))
		}
		return err
	}
}

// errUnanswered is the end of a connection that was closed before a response began. If
// others were answered over it before, the server may have closed it without having
// seen the request: whoever asks for what changes nothing asks again (RFC 9112, 9.3.1).
var errUnanswered = errors.New("the connection was closed")

// An exchange is one request and its response, over one connection.
type exchange struct {
	in   *instance
	c    *http1.Client
	r    *request
	inv  *lambent.Invocation
	out  lambent.Reply
	sent chan error  // the outcome of what is written beside the reading; nil: all was written before
	stop func() bool // has the deadline leave the connection alone; false: it has not
}

func (x *exchange) run(ctx context.Context) error {
	x.stop = context.AfterFunc(ctx, func() { x.c.Close() })
	err := x.send()
	if err == nil {
		err = x.relay(ctx)
	}
	if err == nil {
		return nil
	}
	upload := x.drop()
	if !x.stop() {
		x.in.fail()
		return ctx.Err()
	}
	if errors.Is(err, guest.ErrNotDelivered) || upload == nil && errors.Is(err, errUnanswered) {
		return err
	}
	if upload != nil {
		x.out.End(lambent.Result{Fault: uploadFault(upload)})
		return nil
	}
	return x.broken(ctx, err)
}

// send writes the request, or has it written while the response is read.
func (x *exchange) send() error {
	w := x.r.begin(x.c)
	if x.r.upload == nil && len(x.r.body) <= quick {
		defer w.Recycle()
		if x.r.finish(w) != nil {
			return guest.ErrNotDelivered // one write, of which nothing was taken
		}
		return nil
	}
	finish := x.r.finish
	if x.r.upload != nil {
		if w.Stream(x.r.from.ContentLength) != nil {
			w.Recycle()
			return guest.ErrNotDelivered // and nothing of the body was read
		}
		finish = x.r.stream
	}
	x.sent = make(chan error, 1)
	go func() {
		defer w.Recycle()
		err := finish(w)
		x.sent <- err
		close(x.sent)
		if errors.As(err, new(uploadError)) {
			x.c.Close() // the code must not take what it has for the whole
		}
	}()
	return nil
}

// drop closes the connection, and waits until nothing reads the request any more. Its
// error is the upload's that had broken before.
func (x *exchange) drop() (upload error) {
	x.in.drop(x.c)
	if x.sent == nil {
		return nil
	}
	select {
	case err := <-x.sent:
		if u, ok := errors.AsType[uploadError](err); ok {
			return u
		}
		return nil
	default:
	}
	if x.r.upload != nil {
		x.r.upload.Close()
	}
	<-x.sent
	return nil
}

// broken is what an exchange comes to that did not reach its end: the process's end,
// or an answer that tells of it.
func (x *exchange) broken(ctx context.Context, err error) error {
	seen := time.NewTimer(lastWords)
	defer seen.Stop()
	select {
	case <-x.in.sandbox.Done():
		x.in.fail()
		return errEnded
	case <-seen.C:
	case <-ctx.Done():
		x.in.fail()
		return ctx.Err()
	}
	f := brokenFault(err)
	if errors.Is(err, errTooLong) {
		f = x.in.Fault(lambent.FaultTooBig, x.inv)
	}
	x.out.End(lambent.Result{Fault: f})
	return nil
}

// relay passes the response on as it comes. A client that is slow slows the code; one
// that is gone does not stop it.
func (x *exchange) relay(ctx context.Context) error {
	var head http1.Response
	if err := x.c.Receive(x.r.method, &head); err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
		return errUnanswered
	} else if err != nil {
		return brokeOff(err, "before its response began")
	}
	if head.Status == http.StatusSwitchingProtocols {
		if !x.asked(&head) {
			return errSwitch
		}
		return x.tunnel(ctx, &head)
	}
	if x.inv.HTTP == nil && head.Status/100 != 2 {
		return x.refused(ctx, &head)
	}
	gone := x.out.Begin(head.Status, answerHeader(&head)) != nil
	if head.ContentLength < 0 && x.c.Waits() && !gone {
		_, err := x.out.Write(nil) // a head that comes alone is for the client to see
		gone = err != nil
	}
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	body, buf := x.c.Body(), *pooled
	for total := int64(0); ; {
		n, err := body.Read(buf)
		if total += int64(n); total > x.in.limits.MaxStream {
			return errTooLong
		}
		if n > 0 && !gone {
			_, err := x.out.Write(buf[:n])
			gone = err != nil
		}
		if err == io.EOF {
			break
		} else if err != nil {
			return brokeOff(err, "in the middle of its response")
		}
	}
	return x.end(ctx, lambent.Result{Trailer: withoutHop(x.c.Trailer(), nil, saidAnew)})
}

// refused is the answer to an event that says that the event is not done with.
func (x *exchange) refused(ctx context.Context, head *http1.Response) error {
	body, err := io.ReadAll(io.LimitReader(x.c.Body(), int64(x.in.limits.MaxPayload)))
	if err != nil {
		return brokeOff(err, "in the middle of its response")
	}
	return x.end(ctx, lambent.Result{Fault: answerFault(head.Status, body)})
}

// end ends an exchange whose response has come. What a caller takes from here on is
// not the code's time.
func (x *exchange) end(ctx context.Context, res lambent.Result) error {
	if !x.stop() {
		return ctx.Err()
	}
	if x.reusable() {
		x.in.keep(x.c)
	} else {
		_ = x.drop() // what is answered already does not need the rest of the upload
	}
	x.out.End(res)
	return nil
}

// reusable reports whether the connection can take another request: a server that
// answers before it has read all will not read on as if nothing had been.
func (x *exchange) reusable() bool {
	if x.sent != nil {
		select {
		case err := <-x.sent:
			if err != nil {
				return false
			}
		default:
			return false
		}
	}
	return x.c.Reusable()
}

// answerHeader is what the response says to whoever asked, and not to us.
func answerHeader(r *http1.Response) map[string][]string {
	header := make(map[string][]string, 16)
	for name, value := range r.All() {
		key := http.CanonicalHeaderKey(string(name))
		header[key] = append(header[key], string(value))
	}
	return withoutHop(header, header["Connection"], func(string) bool { return false })
}

// withoutHop takes off a header, or a trailer, what is about one connection, and more.
func withoutHop(header map[string][]string, connection []string, also func(name string) bool) map[string][]string {
	for name := range header {
		if ofTheHop(name, connection) || also(name) {
			delete(header, name)
		}
	}
	return header
}

// brokeOff says in words how a connection broke.
func brokeOff(err error, when string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it was closed " + when)
	}
	return errors.New("it failed " + when + ": " + err.Error())
}
