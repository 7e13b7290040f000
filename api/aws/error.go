package aws

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"lambent"
	"lambent/internal/sigv4"
)

const requestIDHeader = "X-Amzn-Requestid"

// A protocol is one of the forms in which AWS's services are asked.
type protocol int

const (
	jsonProtocol  protocol = iota // a target and a document, in JSON 1.0 or 1.1
	queryProtocol                 // a form, answered in XML
	restProtocol                  // paths and methods, in JSON
	s3Protocol                    // paths and methods, in XML
	protocols
)

// protocolOf is the form of a request, as far as it can be told.
func protocolOf(r *http.Request, service string) protocol {
	contentType := r.Header.Get("Content-Type")
	switch {
	case service == "s3":
		return s3Protocol
	case r.Header.Get("X-Amz-Target") != "", strings.HasPrefix(contentType, "application/x-amz-json-"):
		return jsonProtocol
	case strings.HasPrefix(contentType, "application/x-www-form-urlencoded"), strings.Contains(r.URL.RawQuery, "Action="):
		return queryProtocol
	}
	return restProtocol
}

// words has AWS's word for a reason, where protocols have several, and the status.
var words = map[string]struct {
	status int
	codes  [protocols]string
}{
	sigv4.ReasonIncomplete:    {400, [protocols]string{"IncompleteSignatureException", "IncompleteSignature", "IncompleteSignatureException", "AuthorizationHeaderMalformed"}},
	sigv4.ReasonMismatch:      {403, [protocols]string{"InvalidSignatureException", "SignatureDoesNotMatch", "InvalidSignatureException", "SignatureDoesNotMatch"}},
	sigv4.ReasonSkewed:        {403, [protocols]string{"RequestTimeTooSkewed", "RequestTimeTooSkewed", "RequestTimeTooSkewed", "RequestTimeTooSkewed"}},
	sigv4.ReasonExpired:       {403, [protocols]string{"InvalidSignatureException", "SignatureDoesNotMatch", "InvalidSignatureException", "AccessDenied"}},
	sigv4.ReasonUnsigned:      {403, [protocols]string{"InvalidSignatureException", "SignatureDoesNotMatch", "InvalidSignatureException", "AccessDenied"}},
	sigv4.ReasonPayload:       {400, [protocols]string{"InvalidSignatureException", "SignatureDoesNotMatch", "InvalidSignatureException", "XAmzContentSHA256Mismatch"}},
	sigv4.ReasonIncompleteEnd: {400, [protocols]string{"SerializationException", "MalformedQueryString", "SerializationException", "IncompleteBody"}},
	sigv4.ReasonMissingHash:   {400, [protocols]string{"InvalidSignatureException", "SignatureDoesNotMatch", "InvalidSignatureException", "InvalidRequest"}},
	sigv4.ReasonNoSession:     {403, [protocols]string{"UnrecognizedClientException", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidToken"}},
}

// kinds is what is said where an error has no word of its own.
var kinds = map[lambent.Kind]struct {
	status int
	codes  [protocols]string
}{
	lambent.Internal:        {500, [protocols]string{"InternalFailure", "InternalFailure", "ServiceException", "InternalError"}},
	lambent.Invalid:         {400, [protocols]string{"ValidationException", "ValidationError", "InvalidParameterValueException", "InvalidArgument"}},
	lambent.NotFound:        {404, [protocols]string{"ResourceNotFoundException", "ResourceNotFound", "ResourceNotFoundException", "NoSuchKey"}},
	lambent.Exists:          {409, [protocols]string{"ResourceAlreadyExistsException", "ResourceAlreadyExists", "ResourceConflictException", "BucketAlreadyOwnedByYou"}},
	lambent.Stale:           {412, [protocols]string{"ConcurrentModificationException", "ConcurrentModification", "PreconditionFailedException", "PreconditionFailed"}},
	lambent.TooLarge:        {413, [protocols]string{"RequestEntityTooLargeException", "RequestEntityTooLarge", "RequestTooLargeException", "EntityTooLarge"}},
	lambent.Throttled:       {429, [protocols]string{"ThrottlingException", "Throttling", "TooManyRequestsException", "SlowDown"}},
	lambent.Unauthenticated: {403, [protocols]string{"UnrecognizedClientException", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"}},
	lambent.Forbidden:       {403, [protocols]string{"AccessDeniedException", "AccessDenied", "AccessDeniedException", "AccessDenied"}},
	lambent.Unavailable:     {503, [protocols]string{"ServiceUnavailable", "ServiceUnavailable", "ServiceUnavailable", "ServiceUnavailable"}},
	lambent.Unsupported:     {501, [protocols]string{"UnknownOperationException", "InvalidAction", "NotImplemented", "NotImplemented"}},
	lambent.NoSpace:         {507, [protocols]string{"ServiceUnavailable", "ServiceUnavailable", "ServiceUnavailable", "InsufficientStorage"}},
	lambent.Broken:          {400, [protocols]string{"ValidationException", "ValidationError", "InvalidParameterValueException", "InvalidArgument"}},
	lambent.Canceled:        {499, [protocols]string{"RequestCanceled", "RequestCanceled", "RequestCanceled", "RequestCanceled"}},
}

// queryCodes has the codes of SQS that are others in the query protocol.
var queryCodes = map[string]string{
	"QueueDoesNotExist":            "AWS.SimpleQueueService.NonExistentQueue",
	"QueueNameExists":              "QueueAlreadyExists",
	"BatchEntryIdsNotDistinct":     "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
	"BatchRequestTooLong":          "AWS.SimpleQueueService.BatchRequestTooLong",
	"EmptyBatchRequest":            "AWS.SimpleQueueService.EmptyBatchRequest",
	"InvalidBatchEntryId":          "AWS.SimpleQueueService.InvalidBatchEntryId",
	"TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
	"MessageNotInflight":           "AWS.SimpleQueueService.MessageNotInflight",
}

// A refusal is an error in a protocol's words.
type refusal struct {
	status  int
	code    string
	message string
	query   string // the code in the query protocol, for clients that know a service's errors by that
	retry   int    // seconds after which to come again; 0: nothing is said
	reason  string // of what Lambda throttles
}

// refusalOf words an error. One whose reason is a service's own keeps it: services have
// the status of their kind, but for what AWS has a 400 for.
func refusalOf(p protocol, err error) refusal {
	kind := lambent.KindOf(err)
	out := refusal{
		status: kinds[kind].status, code: kinds[kind].codes[p], message: lambent.UserMessage(err),
		query: kinds[kind].codes[queryProtocol], retry: lambent.RetrySeconds(err),
	}
	e, ok := errors.AsType[*lambent.Error](err)
	isRPC := p == jsonProtocol || p == queryProtocol
	if isRPC && kind == lambent.Unsupported {
		out.status = http.StatusBadRequest // a client would try what is 501 again
	}
	if !ok || kind == lambent.Internal {
		return out
	}
	if e.Hint != "" {
		out.message += " (try: " + e.Hint + ")"
	}
	switch e.Reason {
	case lambent.ReasonConcurrency, lambent.ReasonReserved: // the code is that of all throttling
		out.reason = e.Reason
		return out
	case "":
		return out
	}
	if w, ok := words[e.Reason]; ok {
		out.status, out.code, out.query = w.status, w.codes[p], w.codes[queryProtocol]
		return out
	}
	out.code, out.query = e.Reason, cmp.Or(queryCodes[e.Reason], e.Reason)
	if p == queryProtocol {
		out.code = out.query
	}
	if isRPC && out.status < 500 && out.status != http.StatusForbidden {
		out.status = http.StatusBadRequest
	}
	return out
}

// refuse answers with an error.
func (f *Face) refuse(w http.ResponseWriter, r *http.Request, p protocol, err error) {
	if lambent.KindOf(err) == lambent.Internal {
		f.Logger.Error("a request failed", "method", r.Method, "path", r.URL.Path, "target", r.Header.Get("X-Amz-Target"), "error", err)
	}
	writeRefusal(w, r, p, refusalOf(p, err))
}

// Refuse answers a request that is not signed, and is still for a service, with an error.
func Refuse(w http.ResponseWriter, r *http.Request, service string, err error) {
	w.Header().Set(requestIDHeader, lambent.NewID())
	p := protocolOf(r, service)
	writeRefusal(w, r, p, refusalOf(p, err))
}

func writeRefusal(w http.ResponseWriter, r *http.Request, p protocol, e refusal) {
	h := w.Header()
	if e.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retry))
	}
	switch p {
	case jsonProtocol, restProtocol:
		contentType := "application/json"
		if p == jsonProtocol {
			contentType = jsonContentType(r)
		}
		h.Set("Content-Type", contentType)
		h.Set("X-Amzn-Errortype", e.code)
		if r.Header.Get("X-Amzn-Query-Mode") == "true" {
			fault := ";Sender"
			if e.status >= 500 {
				fault = ";Receiver"
			}
			h.Set("X-Amzn-Query-Error", e.query+fault)
		}
		w.WriteHeader(e.status)
		_ = json.NewEncoder(w).Encode(struct { // a client that is gone needs no answer
			Type    string `json:"__type"`
			Message string `json:"message"`
			Reason  string `json:"Reason,omitempty"`
		}{e.code, e.message, e.reason})
	case queryProtocol:
		fault := "Sender"
		if e.status >= 500 {
			fault = "Receiver"
		}
		type inner struct {
			Type, Code, Message string
			Detail              struct{}
		}
		writeXML(w, e.status, struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			Error     inner
			RequestID string `xml:"RequestId"`
		}{Error: inner{Type: fault, Code: e.code, Message: e.message}, RequestID: h.Get(requestIDHeader)})
	case s3Protocol:
		h.Set("X-Amz-Request-Id", h.Get(requestIDHeader))
		writeXML(w, e.status, struct {
			XMLName                 xml.Name `xml:"Error"`
			Code, Message, Resource string
			RequestID               string `xml:"RequestId"`
		}{Code: e.code, Message: e.message, Resource: r.URL.Path, RequestID: h.Get(requestIDHeader)})
	}
}

// jsonContentType is the version of the JSON protocol that a client speaks.
func jsonContentType(r *http.Request) string {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-amz-json-1.1") {
		return "application/x-amz-json-1.1"
	}
	return "application/x-amz-json-1.0"
}

func writeXML(w http.ResponseWriter, status int, v any) {
	b, err := xml.Marshal(v)
	if err != nil { // of ours, all can be
		panic(err)
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, xml.Header+string(b))
}
