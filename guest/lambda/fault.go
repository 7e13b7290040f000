package lambda

import (
	"encoding/json"
	"fmt"

	"lambent"
)

// Fault implements guest.Instance: the failures that Lambda itself reports, word
// for word as the service does.
func (in *instance) Fault(kind lambent.FaultKind, inv *lambent.Invocation) *lambent.Fault {
	id := lambent.NewID()
	if inv != nil {
		id = inv.ID
	}
	switch kind {
	case lambent.FaultTimeout:
		return newFault(kind, "Sandbox.Timedout", id, fmt.Sprintf("Task timed out after %.2f seconds", in.unit.Revision.Config.Timeout.Seconds()))
	case lambent.FaultCanceled: // in our words: Lambda has none
		return newFault(kind, "Sandbox.Canceled", id, "Task canceled: its caller is gone")
	case lambent.FaultInit:
		return newFault(kind, "Sandbox.Timedout", id, fmt.Sprintf("Init timed out after %.2f seconds", in.limits.InitTimeout.Seconds()))
	case lambent.FaultTooBig:
		return tooBig(in.limits.MaxPayload + responseSlack)
	}
	outOfMemory := func() *lambent.Fault {
		return newFault(lambent.FaultMemory, "Runtime.OutOfMemory", id, "Runtime exited with error: signal: killed")
	}
	if kind == lambent.FaultMemory { // of a child: the runtime may live on, and has no exit to ask for
		return outOfMemory()
	}
	exit := in.sandbox.Exit()
	switch {
	case exit.OOM:
		return outOfMemory()
	case exit.Code == 0 && exit.Signal == 0:
		return newFault(lambent.FaultExit, "Runtime.ExitError", id, "Runtime exited without providing a reason")
	}
	return newFault(lambent.FaultExit, "Runtime.ExitError", id, "Runtime exited with error: "+exit.String())
}

func tooBig(limit int) *lambent.Fault {
	return newFault(lambent.FaultTooBig, "Function.ResponseSizeTooLarge", "",
		fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", limit))
}

// newFault makes a fault with the payload that a direct call gets. With a request
// id the message is "RequestId: <id> Error: <text>", as the service's own are.
func newFault(kind lambent.FaultKind, typ, id, text string) *lambent.Fault {
	if id != "" {
		text = "RequestId: " + id + " Error: " + text
	}
	payload, err := json.Marshal(struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}{typ, text})
	if err != nil {
		panic("lambda: strings always have a JSON form: " + err.Error())
	}
	return &lambent.Fault{Kind: kind, Type: typ, Message: text, Payload: payload}
}

// faultFromCode reads an error that the code reported. The payload is passed on
// as it came; the type is in a header, or in the JSON.
func faultFromCode(kind lambent.FaultKind, header string, payload []byte) *lambent.Fault {
	f := &lambent.Fault{Kind: kind, Type: header, Payload: payload}
	var said struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}
	if json.Unmarshal(payload, &said) == nil {
		f.Message = said.ErrorMessage
		if said.ErrorType != "" {
			f.Type = said.ErrorType
		}
	}
	if f.Type == "" {
		f.Type = "Runtime.Unknown"
	}
	if len(payload) == 0 {
		f.Payload = newFault(kind, f.Type, "", "").Payload
	}
	return f
}
