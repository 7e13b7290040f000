package gcf

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"lambent"
	"lambent/sandbox"
)

// Fault implements guest.Instance, in the words of Cloud Run's own log.
func (in *instance) Fault(kind lambent.FaultKind, _ *lambent.Invocation) *lambent.Fault {
	c := in.unit.Revision.Config
	switch kind {
	case lambent.FaultTimeout:
		return newFault(kind, http.StatusGatewayTimeout, "DEADLINE_EXCEEDED",
			fmt.Sprintf("The request has been terminated because it has reached the maximum request timeout of %v.", c.Timeout))
	case lambent.FaultCanceled:
		return newFault(kind, 499, "CANCELLED", "The request was cancelled: its caller is gone.")
	case lambent.FaultInit:
		return in.initFault(notListening(in.port)).(*lambent.Fault)
	case lambent.FaultTooBig:
		return newFault(kind, http.StatusInternalServerError, "INTERNAL", fmt.Sprintf("Response size was too large: it is over the limit of %d bytes.", in.limits.MaxStream))
	}
	exit := in.sandbox.Exit()
	if kind == lambent.FaultMemory || exit.OOM {
		return newFault(lambent.FaultMemory, http.StatusInternalServerError, "RESOURCE_EXHAUSTED",
			fmt.Sprintf("Memory limit of %d MiB exceeded. Consider increasing the memory limit.", c.MemoryMB))
	}
	return newFault(lambent.FaultExit, http.StatusServiceUnavailable, "UNAVAILABLE",
		"The request failed because either the HTTP response was malformed or connection to the instance had an error: the process ended, "+ending(exit)+".")
}

// ending says how a process ended.
func ending(e sandbox.Exit) string {
	if e.Signal == 0 {
		return "Container called exit(" + strconv.Itoa(e.Code) + ")"
	}
	return "Container terminated on " + e.String()
}

func notListening(port int) string {
	return fmt.Sprintf("The user-provided container failed to start and listen on the port defined by the PORT=%d environment variable, at 0.0.0.0 or 127.0.0.1, within the allocated timeout.", port)
}

// initFault is an error of Init that is the code's.
func (in *instance) initFault(message string) error {
	return newFault(lambent.FaultInit, http.StatusServiceUnavailable, "UNAVAILABLE", message)
}

// uploadFault is a request whose body did not come to its end.
func uploadFault(err error) *lambent.Fault {
	return newFault(lambent.FaultCanceled, 499, "CANCELLED", "The request was cancelled: its body broke off: "+err.Error()+".")
}

// brokenFault is a response that was not one, or not whole, of a process that lives on.
func brokenFault(err error) *lambent.Fault {
	return newFault(lambent.FaultBroken, http.StatusServiceUnavailable, "UNAVAILABLE",
		"The request failed because either the HTTP response was malformed or connection to the instance had an error: "+err.Error()+".")
}

// answerFault is an event that was not acknowledged. What was answered is passed on.
func answerFault(status int, body []byte) *lambent.Fault {
	text := fmt.Sprintf("The function answered the event with status %d", status)
	if name := http.StatusText(status); name != "" {
		text += " " + name
	}
	f := newFault(lambent.FaultHandler, status, "Status "+strconv.Itoa(status), text+".")
	if len(body) > 0 {
		f.Payload = body
	}
	return f
}

// newFault makes a fault with the payload that Google's APIs have for an error.
func newFault(kind lambent.FaultKind, code int, status, message string) *lambent.Fault {
	type apiError struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Status  string `json:"status"`
	}
	payload, err := json.Marshal(struct {
		Error apiError `json:"error"`
	}{apiError{code, message, status}})
	if err != nil {
		panic("gcf: strings always have a JSON form: " + err.Error())
	}
	return &lambent.Fault{Kind: kind, Type: status, Message: message, Payload: payload, Status: code}
}
