package lambent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"time"
)

// An Invocation is one call for work. Retries of it are attempts under the same
// ID. Exactly one of Raw, HTTP and Events is set.
type Invocation struct {
	ID            string    // a UUID
	TriggerID     string    // which trigger made it; empty for a direct call
	Source        string    // of what kind that is, such as "schedule"; empty for a direct call
	Entry         string    // which entry of an app of several; empty otherwise
	Trace         string    // W3C traceparent or AWS X-Ray header, as it came
	Attempt       int       // from 1; 0 counts as 1
	Hops          int       // functions that led to this call, for loop detection
	Due           time.Time // of a schedule: when it was
	Target        Name
	Async         bool
	Arrived       time.Time // when the edge had it; the zero time: when dispatch has it
	Deadline      time.Time // the caller's; zero: none. The function's own timeout is apart
	ClientContext []byte    // AWS: JSON, at most 3583 bytes
	WantLog       bool      // fill Result.LogTail
	Started       func()    // called once it has an instance, and again with another if that one was dead; nil: nobody is told

	Raw    []byte
	HTTP   *Request
	Events []Event
}

// A Request is an HTTP request for a function. The body is streamed; whoever
// makes the Request keeps it readable until Invoke returns.
type Request struct {
	Method, Proto, Scheme, Host string
	Path                        string // as it came, still escaped, the platform's own prefix removed
	RawQuery                    string
	Header                      map[string][]string // canonical keys
	Body                        io.Reader           // one that has Bytes, as a bytes.Buffer, is read in place; an [Upload] is read once
	ContentLength               int64               // -1: unknown
	Trailer                     map[string][]string // canonical keys: those that the client announced, and the values once Body has been read to its end
	Upgrade                     string              // the protocol that the client wants to switch to; then the Reply is a [Switcher]
	RemoteIP                    string
	RemotePort                  string
	Stream                      bool // the URL's mode is streaming
}

// An Upload is the body of a Request that is still on its way. Whoever reads it slowly
// slows the client. It is only made for guests that take it so.
type Upload interface {
	io.ReadCloser // Close has a Read that is under way fail, and every other; it may be called at any time

	// Count returns how many bytes were read. It may not be called during a Read.
	Count() int64
}

// A Reply receives one answer: Begin at most once, then any number of Writes,
// then End exactly once (unless Invoke returns an error, when End is not
// called). Calls are serial, but may come from another goroutine than Invoke's.
// Write blocks while the client is slow: that is the back-pressure. Once End
// has been called the caller has its answer; the instance may still be busy.
type Reply interface {
	Begin(status int, header map[string][]string) error
	Write([]byte) (int, error)
	End(Result)
}

// A Switcher is a Reply whose client may be answered with another protocol than HTTP
// on its connection (RFC 9110, 7.8).
type Switcher interface {
	// Switch takes the place of Begin: it answers 101, and returns the connection. All
	// that passes there is between the code and the client. End closes it.
	Switch(header map[string][]string) (Conn, error)
}

// A Conn is a client's connection whose protocol was switched. One goroutine may read
// while another writes.
type Conn interface {
	io.ReadWriteCloser // Close may be called at any time, and ends both

	// CloseWrite tells the client that nothing more comes.
	CloseWrite() error
}

// A Result ends an answer.
type Result struct {
	Version string              // that ran: "latest" or a number
	Fault   *Fault              // the function's own failure, or nil
	Trailer map[string][]string // of an answer by HTTP, behind its body; canonical keys
	// FailedItems are the ids of a batch that are to be retried.
	FailedItems []string
	LogTail     []byte // the last 4 KB of the invocation's log, where asked for
	Usage       Usage
}

// FaultKind is what went wrong with a function, in the platform's words.
type FaultKind string

const (
	FaultHandler  FaultKind = "error"    // the handler raised or returned an error
	FaultInit     FaultKind = "init"     // the code could not be initialised
	FaultTimeout  FaultKind = "timeout"  // the attempt took longer than Config.Timeout
	FaultExit     FaultKind = "exit"     // the process ended by itself
	FaultMemory   FaultKind = "oom"      // it was killed for its memory limit
	FaultCanceled FaultKind = "canceled" // its caller was gone, and [DisconnectCancel] was asked for
	FaultBroken   FaultKind = "broken"   // what came from the code was no response, or not a whole one
	FaultTooBig   FaultKind = "response" // the response is over the limit
)

// A Fault is a function's own failure, in its cloud's words. It is an outcome,
// not an error of the platform.
type Fault struct {
	Kind    FaultKind
	Type    string // such as "ValueError", "Sandbox.Timedout"
	Message string
	Status  int    // what the cloud answers to a caller by HTTP; 0: 502, as AWS does
	Said    string // of code that did not start: the end of what it wrote
	Payload []byte // what the cloud answers to a direct call, usually JSON; nil while the answer had begun
}

// Error makes a Fault usable as an error where one is returned.
func (f *Fault) Error() string { return f.Type + ": " + f.Message }

// An Invoker runs invocations. Its error is the platform's (throttled, not
// found, shutting down); the function's own failure is in Result.Fault. For an
// asynchronous invocation the Reply is nil, and a nil error means durable.
type Invoker interface {
	Invoke(context.Context, *Invocation, Reply) error
}

// NewID returns a random UUID (version 4), which is what clients expect of an
// invocation's id.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return uuid(b, 4)
}

// IDOf returns the UUID (version 8, RFC 9562) of what a text names: the same one for
// the same text.
func IDOf(text string) string {
	h := sha256.Sum256([]byte(text))
	return uuid([16]byte(h[:16]), 8)
}

func uuid(b [16]byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	var id [36]byte
	hex.Encode(id[0:8], b[0:4])
	hex.Encode(id[9:13], b[4:6])
	hex.Encode(id[14:18], b[6:8])
	hex.Encode(id[19:23], b[8:10])
	hex.Encode(id[24:36], b[10:16])
	id[8], id[13], id[18], id[23] = '-', '-', '-', '-'
	return string(id[:])
}
