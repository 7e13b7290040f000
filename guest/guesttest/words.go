package guesttest

import (
	"encoding/json"
	"strings"
	"testing"

	"lambent"
)

// Words are how a cloud tells what the platform saw of a failure. In a message $ID is
// the invocation's id and $SECONDS the function's timeout.
type Words struct {
	Timeout, ExitZero, ExitThree, Killed, Memory Said
	Broken                                       Said // a stream that ends in the middle
}

// Said is a fault's type, and what its message has in it.
type Said struct{ Type, Message string }

// aws are the words of Lambda.
var aws = Words{
	Timeout:   Said{"Sandbox.Timedout", "RequestId: $ID Error: Task timed out after $SECONDS seconds"},
	ExitZero:  Said{"Runtime.ExitError", "RequestId: $ID Error: Runtime exited without providing a reason"},
	ExitThree: Said{"Runtime.ExitError", "RequestId: $ID Error: Runtime exited with error: exit status 3"},
	Killed:    Said{"Runtime.ExitError", "RequestId: $ID Error: Runtime exited with error: signal: killed"},
	Memory:    Said{"Runtime.OutOfMemory", "RequestId: $ID Error: Runtime exited with error: signal: killed"},
	Broken:    Said{"OutOfCheese", ""},
}

func (s suite) words() Words {
	if s.l.Words != (Words{}) {
		return s.l.Words
	}
	return aws
}

// says expects a fault in certain words, and returns it. seconds is the timeout, where
// that is what ended it.
func (s suite) says(t *testing.T, a *Answer, said Said, seconds string) *lambent.Fault {
	t.Helper()
	f := fault(t, a)
	s.payload(t, f, said.Type, strings.NewReplacer("$ID", a.Result.Usage.ID, "$SECONDS", seconds).Replace(said.Message))
	return f
}

// payload checks what a direct caller is shown of a fault: of a handler's that is its
// type and its message.
func (s suite) payload(t *testing.T, f *lambent.Fault, typ, message string) {
	t.Helper()
	if s.l.Server {
		if f.Type != typ || !strings.Contains(f.Message+"\n"+string(f.Payload), message) {
			t.Errorf("the fault is %q, %q with the payload %q, want %q, ...%q", f.Type, f.Message, f.Payload, typ, message)
		}
		return
	}
	var got struct{ ErrorType, ErrorMessage string }
	if err := json.Unmarshal(f.Payload, &got); err != nil {
		t.Fatalf("payload %q: %v", f.Payload, err)
	}
	if got.ErrorType != typ || !strings.Contains(got.ErrorMessage, message) {
		t.Errorf("payload says %q, %q, want %q, ...%q", got.ErrorType, got.ErrorMessage, typ, message)
	}
}
