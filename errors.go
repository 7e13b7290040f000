package lambent

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Kind says what class of failure an error is. Edges translate it into their
// protocol's status and error name; nothing else about an error decides those.
type Kind uint8

const (
	Internal        Kind = iota // a fault of the platform; details are for its operator only
	Invalid                     // the caller's input breaks a rule
	NotFound                    // the named thing does not exist
	Exists                      // the named thing exists already
	Stale                       // the thing changed since the caller read it (optimistic concurrency)
	TooLarge                    // the input is over a size limit
	Throttled                   // refused for load; Error.RetryAfter says when to come back
	Unauthenticated             // no credential, or one that is not known
	Forbidden                   // the credential does not allow it
	Unavailable                 // the platform cannot do it now (closing, engine not ready)
	Unsupported                 // understood, but not offered here
	NoSpace                     // the disk is full, or close enough to it that we refuse
	Broken                      // the function's code cannot be started: its fault, found at deploy
	Canceled                    // the caller gave up
)

var kindNames = [...]string{
	"internal", "invalid", "not_found", "exists", "stale", "too_large", "throttled", "unauthenticated",
	"forbidden", "unavailable", "unsupported", "no_space", "broken", "canceled",
}

// String returns the kind's name as our own API spells it, such as "not_found".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", k)
}

// ParseKind is the inverse of [Kind.String]; an unknown name is [Internal].
func ParseKind(s string) Kind {
	for i, n := range kindNames {
		if n == s {
			return Kind(i)
		}
	}
	return Internal
}

// An Error is how every package of lambent reports failure to the ones above
// it. Message is one line for the user; Hint, if any, is the one command that
// mends the matter. Err is the cause, for logs and errors.Is; it is shown to
// strangers only where Kind is not Internal.
type Error struct {
	Kind       Kind
	Op         string // the operation that failed, such as "control.Deploy"
	Message    string
	Hint       string
	RetryAfter time.Duration
	Reason     string // where AWS has a word for it, such as [ReasonConcurrency]
	Err        error
}

// Reasons why a call is refused, in AWS's words.
const (
	ReasonConcurrency = "ConcurrentInvocationLimitExceeded"                 // as many as all functions of the project may have
	ReasonReserved    = "ReservedFunctionConcurrentInvocationLimitExceeded" // as many as this function may have
	ReasonLoop        = "RecursiveInvocationException"                      // functions that have led to one another
)

// Errorf makes an Error whose message is formatted as by fmt.Errorf; an operand
// of %w becomes its cause.
func Errorf(kind Kind, op, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Op: op, Message: wrapped.Error(), Err: errors.Unwrap(wrapped)}
}

// WithHint sets the mending command and returns the error.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Error returns "op: message"; the hint is the edge's to show.
func (e *Error) Error() string {
	if e.Op == "" {
		return e.Message
	}
	return e.Op + ": " + e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost [Error] in err's chain, and Internal
// where there is none. KindOf(nil) is meaningless.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is an [Error] of that kind.
func Is(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}

// RetrySeconds is what Retry-After says to whoever got err: in how many seconds to come again,
// rounded up, and at least 1 where it is throttled. 0: nothing is said.
func RetrySeconds(err error) int {
	e, ok := errors.AsType[*Error](err)
	switch {
	case !ok || e.Kind == Internal:
		return 0
	case e.RetryAfter > 0:
		return int((e.RetryAfter + time.Second - 1) / time.Second)
	case e.Kind == Throttled:
		return 1
	}
	return 0
}

// UserMessage returns what a stranger may read of err: its message without the
// operation names, and for Internal errors nothing of their inside.
func UserMessage(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind == Internal {
		return "internal error: the server's log has the details"
	}
	return strings.TrimSpace(e.Message)
}
