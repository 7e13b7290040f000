package v1

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/auth"
)

// The headers of an invocation. Canonical, because the hot path sets them without
// asking for that.
const (
	requestIDHeader    = "Lambent-Request-Id"
	versionHeader      = "Lambent-Version"
	faultHeader        = "Lambent-Fault"
	faultMessageHeader = "Lambent-Fault-Message"
	logTailHeader      = "Lambent-Log-Tail"
	usageHeader        = "Lambent-Usage"
	wantLogHeader      = "Lambent-Log"     // of the request: "tail"
	waitHeader         = "Lambent-Wait-Ms" // of the request: the caller's deadline, from now
	wantReportHeader   = "Lambent-Report"  // of the request: "usage"
	preferHeader       = "Prefer"          // of the request: "respond-async" (RFC 7240)
	idempotencyHeader  = "Idempotency-Key" // of an asynchronous request
)

func (s *service) invokeOperations(api huma.API) {
	s.plain(api, &huma.Operation{
		OperationID: "invoke", Method: http.MethodPost, Path: "/v1/functions/{name}/invocations", Tags: []string{"invocations"},
		Summary: "Invoke a function",
		Description: "The body goes to the function as it is, and the answer is what the function returned, byte for byte. " +
			"The function's own failure is an answer too: its status is 200, it has the header Lambent-Fault, and its body is the error as the function's cloud words it. " +
			"With `Prefer: respond-async` the answer is 202, once the payload is on disk: the function is called then, and again if it fails, as its settings say. " +
			"A streamed answer has what is known at its end in trailers. One that fails on the way ends with the trailer Lambent-Fault for clients that send `TE: trailers`; for others the connection is broken off, so that nobody takes it for whole.",
		Parameters: []*huma.Param{
			functionParam(),
			param("query", "qualifier", "A version or an alias; without one, latest"),
			param("header", wantLogHeader, "tail: answer with the end of the invocation's log, too"),
			param("header", waitHeader, "In how many milliseconds the answer is of no more use: a call that has not begun by then is not begun, and refused with where its time went. One that runs runs on"),
			param("header", wantReportHeader, "usage: answer with what was used, too"),
			param("header", preferHeader, "respond-async: do not wait for the function"),
			param("header", idempotencyHeader, "With respond-async: whoever sends the same key again, as the answer was lost, does not call the function twice. It is known for a while after the invocation's end, which is minutes unless there are very many, and as long as that is a dead letter"),
		},
		RequestBody: &huma.RequestBody{Content: binary("application/octet-stream"), Description: "At most 6 MB; with respond-async 1 MB"},
		Responses: map[string]*huma.Response{"200": {
			Description: "What the function returned",
			Content:     binary("*/*"),
			Headers: map[string]*huma.Param{
				requestIDHeader:    header("The invocation's id, in logs and usage records"),
				versionHeader:      header("The version that ran: a number, or latest"),
				faultHeader:        header("Only where the function failed: error, init, timeout, exit, oom, canceled or response"),
				faultMessageHeader: header("Only where the function failed: the error's type and message in one line"),
				logTailHeader:      header("The last 4 KB of the invocation's log in base64, where asked for"),
				usageHeader:        header("A usage record as JSON, where asked for"),
			},
		}, "202": {
			Description: "It is kept, and will be run",
			Headers:     map[string]*huma.Param{requestIDHeader: header("The invocation's id, in logs and usage records of each attempt")},
		}},
	}, auth.RoleInvoke, s.invoke)
}

// invoke is the hot path.
func (s *service) invoke(w http.ResponseWriter, r *http.Request, project string) error {
	arrived := time.Now()
	qualifier := ""
	if r.URL.RawQuery != "" {
		q := r.URL.Query()
		qualifier = q.Get("qualifier")
		for k := range q {
			if k != "qualifier" && k != "project" {
				return lambent.Errorf(lambent.Invalid, "v1.invoke", "%.100s: unknown query parameter", k)
			}
		}
	}
	name, err := checkedName(project, r.PathValue("name"), qualifier)
	if err != nil {
		return err
	}
	inv := &lambent.Invocation{ID: lambent.NewID(), Target: name, Arrived: arrived, Trace: r.Header.Get("Traceparent")}
	re := &reply{w: w, id: inv.ID, trailers: strings.Contains(r.Header.Get("Te"), "trailers")}
	if inv.WantLog, err = asked(r, wantLogHeader, "tail"); err != nil {
		return err
	}
	if re.wantUsage, err = asked(r, wantReportHeader, "usage"); err != nil {
		return err
	}
	if inv.Async = PrefersAsync(r.Header); inv.Async {
		return s.invokeAsync(w, r, inv)
	}
	if ms := r.Header[waitHeader]; len(ms) > 0 {
		wait, err := strconv.ParseInt(ms[0], 10, 64)
		if err != nil || wait <= 0 || len(ms) > 1 {
			return lambent.Errorf(lambent.Invalid, "v1.invoke", "header %s is %.40q: a number of milliseconds from 1", waitHeader, ms[0])
		}
		inv.Deadline = arrived.Add(milliseconds(wait))
	}
	buf := payloads.Get().(*[]byte)
	defer putPayload(buf)
	body := s.Intake.Body(project, r.Body)
	defer body.Release()
	r.Body = &body
	if *buf, err = readPayload((*buf)[:0], w, r, s.Limits.MaxPayload); err != nil {
		return err
	}
	inv.Raw = *buf

	err = s.Invoker.Invoke(r.Context(), inv, re)
	switch {
	case re.broken || err != nil && re.sent:
		panic(http.ErrAbortHandler) // the client must not take what it has for the whole
	case err != nil:
		w.Header().Del("Content-Length")
		w.Header()[requestIDHeader] = []string{inv.ID}
	}
	return err
}

// PrefersAsync reports whether a request does not want to wait: by one preference among
// others, of which nothing is made (RFC 7240, 2).
func PrefersAsync(h http.Header) bool {
	for _, preferences := range h[preferHeader] {
		for preference := range strings.SplitSeq(preferences, ",") {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

// invokeAsync answers once the invocation is kept.
func (s *service) invokeAsync(w http.ResponseWriter, r *http.Request, inv *lambent.Invocation) error {
	for _, name := range []string{wantLogHeader, waitHeader, wantReportHeader} {
		if len(r.Header[name]) > 0 {
			return lambent.Errorf(lambent.Invalid, "v1.invoke", "header %s is about an answer, which nobody waits for with respond-async", name)
		}
	}
	if keys := r.Header[idempotencyHeader]; len(keys) > 0 {
		if len(keys) > 1 || keys[0] == "" || len(keys[0]) > 255 {
			return lambent.Errorf(lambent.Invalid, "v1.invoke", "header %s is one key of 1 to 255 characters", idempotencyHeader)
		}
		inv.ID = lambent.IDOf("idempotency " + inv.Target.Project + "/" + inv.Target.Function + "/" + keys[0])
	}
	buf := payloads.Get().(*[]byte)
	defer putPayload(buf)
	var err error
	if *buf, err = readPayload((*buf)[:0], w, r, s.Limits.MaxAsyncPayload); err != nil {
		return err
	}
	inv.Raw = *buf
	h := w.Header()
	h[requestIDHeader] = []string{inv.ID}
	if err := s.Invoker.Invoke(r.Context(), inv, nil); err != nil {
		return err
	}
	h["Preference-Applied"] = []string{"respond-async"}
	h["Content-Length"] = []string{"0"}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// asked reports whether a request header has the one value that it may have.
func asked(r *http.Request, name, value string) (bool, error) {
	switch got := r.Header[name]; {
	case len(got) == 0:
		return false, nil
	case len(got) == 1 && got[0] == value:
		return true, nil
	default:
		return false, lambent.Errorf(lambent.Invalid, "v1.invoke", "header %s is %.40q: only %q is known", name, got[0], value)
	}
}

// payloads are buffers of requests. Large ones are left to the collector.
var payloads = sync.Pool{New: func() any { return new(make([]byte, 0, 4096)) }}

const pooledPayload = 64 << 10

func putPayload(b *[]byte) {
	if cap(*b) <= pooledPayload {
		payloads.Put(b)
	}
}

// readPayload reads a request's body, up to a limit, into buf. It is never nil.
func readPayload(buf []byte, w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	tooLarge := func() error {
		return lambent.Errorf(lambent.TooLarge, "v1.invoke", "the payload is over the limit of %d bytes", limit)
	}
	if r.ContentLength > int64(limit) {
		return buf, tooLarge()
	}
	if n := int(r.ContentLength); n > cap(buf) {
		buf = make([]byte, 0, n+1) // one more lets the end be seen without growing
	}
	body := http.MaxBytesReader(w, r.Body, int64(limit))
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if _, over := errors.AsType[*http.MaxBytesError](err); over {
			return buf, tooLarge()
		}
		if lambent.Is(err, lambent.Throttled) {
			return buf, err
		}
		if err != nil {
			return buf, lambent.Errorf(lambent.Canceled, "v1.invoke", "the payload broke off: %w", err)
		}
	}
}

// A reply is the lambent.Reply of one request. An answer whose length is known is
// sent whole, at its end, with all its headers; any other is passed on piece by
// piece, and what is known at the end goes into trailers.
type reply struct {
	w         http.ResponseWriter
	id        string
	wantUsage bool
	trailers  bool // the client reads them

	contentType []string
	length      int64 // announced; -1: none
	written     int64
	held        []byte // the write that completes length
	sent        bool   // the status is out
	streams     bool   // what is written goes out at once
	broken      bool   // the answer is not whole, and the client cannot tell
}

var (
	jsonType   = []string{"application/json"}
	bytesType  = []string{"application/octet-stream"}
	nosniff    = []string{"nosniff"}
	ourTrailer = []string{versionHeader + ", " + faultHeader + ", " + faultMessageHeader + ", " + logTailHeader + ", " + usageHeader}
)

// Begin implements lambent.Reply. Of the head only the type counts here: the
// status is the face's own.
func (re *reply) Begin(_ int, h map[string][]string) error {
	re.contentType, re.length = h["Content-Type"], -1
	if l := h["Content-Length"]; len(l) == 1 {
		if n, err := strconv.ParseInt(l[0], 10, 64); err == nil && n >= 0 {
			re.length = n
		}
	}
	return nil
}

// Write implements lambent.Reply.
func (re *reply) Write(b []byte) (int, error) {
	if !re.sent && re.written == 0 && int64(len(b)) == re.length {
		re.held, re.written = b, re.length
		return len(b), nil
	}
	if !re.sent {
		re.send(true)
	}
	n, err := re.w.Write(b)
	re.written += int64(n)
	if err == nil && re.streams {
		err = http.NewResponseController(re.w).Flush()
	}
	return n, err
}

// send sends the head. streams says that what is known at the end is not known yet.
func (re *reply) send(streams bool) {
	h := re.w.Header()
	h[requestIDHeader] = []string{re.id}
	h["X-Content-Type-Options"] = nosniff
	if len(re.contentType) == 0 {
		re.contentType = bytesType
	}
	h["Content-Type"] = re.contentType
	if streams {
		h["Trailer"] = ourTrailer
		re.streams = true
	}
	re.sent = true
	re.w.WriteHeader(http.StatusOK)
}

// End implements lambent.Reply.
func (re *reply) End(res lambent.Result) {
	switch {
	case re.sent:
		re.facts(&res)
		re.broken = res.Fault != nil && !re.trailers
		return
	case res.Fault != nil:
		re.contentType, re.held = jsonType, res.Fault.Payload
	}
	re.facts(&res)
	re.w.Header()["Content-Length"] = []string{strconv.Itoa(len(re.held))}
	re.send(false)
	_, _ = re.w.Write(re.held) // a client that is gone changes nothing
}

// facts sets what is known at the end: headers, or, once those are out, trailers.
func (re *reply) facts(res *lambent.Result) {
	h := re.w.Header()
	h[versionHeader] = []string{res.Version}
	if f := res.Fault; f != nil {
		h[faultHeader] = []string{string(f.Kind)}
		h[faultMessageHeader] = []string{faultMessage(f)}
	}
	if len(res.LogTail) > 0 {
		h[logTailHeader] = []string{base64.StdEncoding.EncodeToString(res.LogTail)}
	}
	if re.wantUsage {
		if b, err := json.Marshal(invocation(&res.Usage)); err == nil {
			h[usageHeader] = []string{string(b)}
		}
	}
}

const maxFaultMessage = 1024

// faultMessage is a fault in one line that a header can carry.
func faultMessage(f *lambent.Fault) string {
	s := oneLine(f.Error())
	if len(s) > maxFaultMessage {
		s = strings.ToValidUTF8(s[:maxFaultMessage], "") + "..."
	}
	return s
}
