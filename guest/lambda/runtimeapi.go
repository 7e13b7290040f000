package lambda

import (
	"bytes"
	"encoding/base64"
	"sync"

	"lambent"
	"lambent/internal/http1"
)

// The paths of the Runtime API.
var (
	pathNext       = []byte("/2018-06-01/runtime/invocation/next")
	pathInvocation = []byte("/2018-06-01/runtime/invocation/")
	pathInitError  = []byte("/2018-06-01/runtime/init/error")
)

// maxErrorBody bounds an error report; AWS cuts them at 256 KB.
const maxErrorBody = 256 << 10

// bodies holds buffers for responses up to pooledBody bytes. Larger ones are made
// for the occasion.
var bodies = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

const pooledBody = 64 << 10

// serve answers one connection's requests until it closes.
func (in *instance) serve(c *http1.Conn) {
	defer func() {
		c.Close()
		in.untrack(c)
	}()
	var req http1.Request
	for {
		if err := c.Read(&req); err != nil {
			return
		}
		if bytes.Equal(req.Path, pathNext) && string(req.Method) == "GET" {
			// The client sends nothing more on this connection until it is answered,
			// so this goroutine's next Read sees only the answered client's request,
			// or its end.
			in.wait(c)
		} else if err := in.answer(c, &req); err != nil {
			return
		}
		if !c.KeepAlive() && !bytes.Equal(req.Path, pathNext) {
			_ = c.Flush()
			return
		}
	}
}

// answer handles everything but `next`.
func (in *instance) answer(c *http1.Conn, req *http1.Request) error {
	if string(req.Method) == "POST" {
		if bytes.Equal(req.Path, pathInitError) {
			body, err := c.ReadBody(nil, maxErrorBody)
			if err != nil {
				return err
			}
			in.failInit(faultFromCode(lambent.FaultInit, string(req.Header("Lambda-Runtime-Function-Error-Type")), body))
			return reply(c, 202, statusOK)
		}
		if rest, ok := bytes.CutPrefix(req.Path, pathInvocation); ok {
			if id, what, ok := bytes.Cut(rest, []byte("/")); ok {
				switch string(what) {
				case "response":
					return in.onResponse(c, req, id)
				case "error":
					return in.onError(c, req, id)
				}
			}
		}
	}
	return reply(c, 404, `{"errorMessage":"Not Found","errorType":"InvalidRequest"}`)
}

const statusOK = `{"status":"OK"}`

func reply(c *http1.Conn, status int, body string) error {
	w := c.Answer()
	w.Begin(status)
	w.Header("Content-Type", "application/json")
	return w.Body([]byte(body))
}

func invalidID(c *http1.Conn) error {
	return reply(c, 400, `{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}`)
}

// onResponse takes a response, buffered or streamed.
func (in *instance) onResponse(c *http1.Conn, req *http1.Request, id []byte) error {
	cl := in.claim(id)
	if cl == nil {
		return invalidID(c)
	}
	r := &response{contentType: string(req.Header("Content-Type"))}
	mode := string(req.Header("Lambda-Runtime-Function-Response-Mode"))
	if mode != "" && mode != "streaming" && mode != "buffered" {
		r.fault = newFault(lambent.FaultHandler, "Runtime.InvalidResponseModeHeader", "", "Invalid response mode "+mode)
		cl.response <- r
		return reply(c, 400, `{"errorMessage":"Invalid response mode","errorType":"InvalidResponseModeHeader"}`)
	}
	// aws-lambda-go streams without saying so: a length that is not known beforehand
	// and a type other than JSON tell.
	chunked := req.ContentLength < 0
	if mode == "streaming" || mode == "" && chunked && r.contentType != "application/json" {
		r.conn, r.read = c, make(chan struct{})
		cl.response <- r
		if !in.heeded(cl) {
			return errEnded
		}
		<-r.read
		return reply(c, 202, statusOK)
	}
	limit := in.limits.MaxPayload + responseSlack
	var buf []byte
	if req.ContentLength <= pooledBody {
		buf = (*bodies.Get().(*[]byte))[:0]
	}
	body, err := c.ReadBody(buf, limit)
	if err == http1.ErrTooLarge {
		r.fault = tooBig(limit)
		cl.response <- r
		return reply(c, 413, `{"errorMessage":"Exceeded maximum allowed payload size","errorType":"RequestEntityTooLarge"}`)
	}
	if err != nil {
		return err // the connection broke: the call ends with the process
	}
	r.body = body
	if chunked {
		r.fault = streamFault(c)
	}
	cl.response <- r
	return reply(c, 202, statusOK)
}

// onError takes an error that the handler raised.
func (in *instance) onError(c *http1.Conn, req *http1.Request, id []byte) error {
	cl := in.claim(id)
	if cl == nil {
		return invalidID(c)
	}
	header := string(req.Header("Lambda-Runtime-Function-Error-Type"))
	body, err := c.ReadBody(nil, maxErrorBody)
	if err != nil && err != http1.ErrTooLarge {
		return err
	}
	if err != nil {
		body = nil
	}
	cl.response <- &response{fault: faultFromCode(lambent.FaultHandler, header, body)}
	return reply(c, 202, statusOK)
}

// streamFault reads the trailers that end a streamed response which failed.
func streamFault(c *http1.Conn) *lambent.Fault {
	typ := c.Trailer("Lambda-Runtime-Function-Error-Type")
	if typ == nil {
		return nil
	}
	body, err := base64.StdEncoding.DecodeString(string(c.Trailer("Lambda-Runtime-Function-Error-Body")))
	if err != nil {
		body = nil
	}
	return faultFromCode(lambent.FaultHandler, string(typ), body)
}
