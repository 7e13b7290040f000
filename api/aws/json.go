package aws

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"lambent"
)

// operationOf is what a request of the JSON protocols is for: of "AWSEvents.PutEvents" that
// is PutEvents.
func operationOf(r *http.Request) string {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return operation
}

// noOperation refuses what a service does not do here.
func noOperation(service, operation string, has string) error {
	return because("UnknownOperationException", lambent.Errorf(lambent.Unsupported, "aws", "%s has no operation %.60q here: there are %s", service, operation, has))
}

// readJSON reads a request of the JSON protocols; fields that are not known do not matter,
// as with AWS.
func readJSON(r *http.Request, into any) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return because("SerializationException", lambent.Errorf(lambent.Invalid, "aws", "the request cannot be read: %w", err))
	}
	return nil
}

// readBody reads a body, which the face has bounded.
func readBody(r *http.Request) ([]byte, error) {
	b, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*lambent.Error](err); err != nil && !ok {
		err = lambent.Errorf(lambent.Invalid, "aws", "the body cannot be read: %w", err)
	}
	return b, err
}

// answerJSON answers in the JSON protocol that was spoken.
func answerJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", jsonContentType(r))
	_, _ = w.Write(b) // a client that is gone needs no answer
	return nil
}
