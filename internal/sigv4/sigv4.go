// Package sigv4 checks and makes signatures of AWS Signature Version 4
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html): in the
// Authorization header or, presigned, in the query, of whole payloads, of unsigned
// ones, and of payloads that are signed chunk by chunk as they come.
//
// What it guarantees: a request that Verify lets pass was made by whoever has the
// secret, not long ago, in method, path, query, signed headers and x-amz headers; its
// body is what was signed, which is known when a reader has come to io.EOF and not
// before. Signatures are compared in constant time.
//
// What it does not do: it knows no keys and no rights, which are its caller's; nor
// does it refuse a request that comes a second time within its quarter of an hour, as
// AWS does not. Signatures of version 4A, which are made with elliptic curves, and of
// version 2 are none to it.
//
// What it refuses is a *lambent.Error whose Reason is AWS's word, as S3 has it.
package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"lambent"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"

	// Skew is how far a clock may be from ours.
	Skew = 15 * time.Minute

	maxExpires = 7 * 24 * time.Hour // of a presigned request
)

// What the header x-amz-content-sha256 says in place of a hash.
const (
	UnsignedPayload = "UNSIGNED-PAYLOAD"

	streamed                = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamedTrailer         = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamedUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

const contentHeader = "X-Amz-Content-Sha256"

// Reasons of refusals, in AWS's words.
const (
	ReasonIncomplete    = "IncompleteSignature"       // it is not of the form
	ReasonMismatch      = "SignatureDoesNotMatch"     // it is another's, or of another request
	ReasonSkewed        = "RequestTimeTooSkewed"      // it is too old, or from the future
	ReasonExpired       = "ExpiredPresignRequest"     // a presigned one
	ReasonPayload       = "XAmzContentSHA256Mismatch" // the body is not what was signed
	ReasonIncompleteEnd = "IncompleteBody"            // the body ends early, or is not in chunks
	ReasonMissingHash   = "MissingContentSHA256"      // S3 has to be told
	ReasonUnsigned      = "UnsignedHeaders"           // there is an x-amz header that is not signed
	ReasonUnknownKey    = "InvalidAccessKeyId"        // for callers: the key is not known
	ReasonNoSession     = "InvalidToken"              // for callers: there is a session token, and no session
)

func fail(kind lambent.Kind, reason, format string, args ...any) error {
	e := lambent.Errorf(kind, "sigv4", format, args...)
	e.Reason = reason
	return e
}

// A Signature is what a request says of its own, unchecked.
type Signature struct {
	AccessKey    string
	Region       string
	Service      string // such as s3, sqs, events
	SessionToken string // "": there is none
	Presigned    bool
	Time         time.Time     // when it was made
	Expires      time.Duration // of a presigned one, from then
	Payload      string        // of x-amz-content-sha256: a hash in hexadecimal, or another word; "": it is not said

	headers   []string // that are signed
	signature string   // in hexadecimal
}

// IsSigned reports whether a request carries a signature of version 4, be it one that
// nobody can check.
func IsSigned(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-") || strings.Contains(r.URL.RawQuery, "X-Amz-Signature=")
}

// Parse reads the signature of a request that has one. Kind: Invalid.
func Parse(r *http.Request) (*Signature, error) {
	s := &Signature{}
	var credential, headers, date string
	if len(r.Header["Authorization"]) > 0 {
		if strings.Contains(r.URL.RawQuery, "X-Amz-Signature=") {
			return nil, fail(lambent.Invalid, ReasonIncomplete, "the request is signed twice: in the header Authorization and in the query")
		}
		if len(r.Header["Authorization"]) > 1 {
			return nil, fail(lambent.Invalid, ReasonIncomplete, "the header Authorization is there twice")
		}
		said, rest, _ := strings.Cut(r.Header["Authorization"][0], " ")
		if said != algorithm {
			return nil, unknownAlgorithm(said)
		}
		for field := range strings.SplitSeq(rest, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
			switch name {
			case "Credential":
				credential = value
			case "SignedHeaders":
				headers = value
			case "Signature":
				s.signature = value
			}
		}
		date = r.Header.Get("X-Amz-Date")
		s.SessionToken = r.Header.Get("X-Amz-Security-Token")
	} else {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return nil, fail(lambent.Invalid, ReasonIncomplete, "the query cannot be read: %w", err)
		}
		if said := query.Get("X-Amz-Algorithm"); said != algorithm {
			return nil, unknownAlgorithm(said)
		}
		s.Presigned = true
		credential, headers, s.signature, date = query.Get("X-Amz-Credential"), query.Get("X-Amz-SignedHeaders"), query.Get("X-Amz-Signature"), query.Get("X-Amz-Date")
		s.SessionToken, s.Payload = query.Get("X-Amz-Security-Token"), query.Get(contentHeader)
		seconds, err := strconv.Atoi(query.Get("X-Amz-Expires"))
		if s.Expires = time.Duration(seconds) * time.Second; err != nil || seconds < 1 || seconds > int(maxExpires/time.Second) {
			return nil, fail(lambent.Invalid, ReasonIncomplete, "X-Amz-Expires is %.20q: 1 to %d seconds", query.Get("X-Amz-Expires"), maxExpires/time.Second)
		}
	}
	if len(s.signature) != 64 {
		return nil, fail(lambent.Invalid, ReasonIncomplete, "the signature has %d characters: it is 64 hexadecimal digits", len(s.signature))
	}
	if v := r.Header.Get(contentHeader); v != "" {
		s.Payload = v
	}
	scope := strings.Split(credential, "/") // a key has no slash
	if len(scope) != 5 || scope[4] != terminator || slices.Contains(scope, "") {
		return nil, fail(lambent.Invalid, ReasonIncomplete, "the credential is %.200q: it is KEY/DATE/REGION/SERVICE/%s", credential, terminator)
	}
	s.AccessKey, s.Region, s.Service = scope[0], scope[2], scope[3]
	var err error
	if s.Time, err = parseTime(date, r.Header.Get("Date")); err != nil {
		return nil, err
	}
	if scope[1] != s.Time.Format(dateFormat) {
		return nil, fail(lambent.Invalid, ReasonIncomplete, "the credential is of %.20q, and the request of %s", scope[1], s.Time.Format(dateFormat))
	}
	s.headers = strings.Split(headers, ";")
	if !slices.Contains(s.headers, "host") {
		return nil, fail(lambent.Invalid, ReasonIncomplete, "the signed headers are %.200q: host must be one of them", headers)
	}
	if !slices.IsSorted(s.headers) || strings.ToLower(headers) != headers {
		return nil, fail(lambent.Invalid, ReasonIncomplete, "the signed headers are %.200q: lower-case names in their order", headers)
	}
	return s, nil
}

func unknownAlgorithm(said string) error {
	return fail(lambent.Invalid, ReasonIncomplete, "the algorithm is %.40q: there is %s", said, algorithm)
}

// parseTime reads x-amz-date or, without one, Date.
func parseTime(amz, date string) (time.Time, error) {
	if amz == "" && date != "" {
		if t, err := http.ParseTime(date); err == nil {
			return t.UTC(), nil
		}
		amz = date
	}
	t, err := time.Parse(timeFormat, amz)
	if err != nil {
		return t, fail(lambent.Invalid, ReasonIncomplete, "the time of the request is %.40q: x-amz-date is of the form %s", amz, timeFormat)
	}
	return t, nil
}

// scope is what a signature is for, and with what its key is made.
func (s *Signature) scope() string {
	return s.Time.Format(dateFormat) + "/" + s.Region + "/" + s.Service + "/" + terminator
}
