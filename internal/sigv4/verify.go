package sigv4

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lambent"
)

// Verify holds a request to its signature, at a time, and leaves in r.Body what was
// signed: read to io.EOF it is that, and to another error it is nothing that the client
// has said. Of a payload in chunks that is the content: r.ContentLength is its length,
// Content-Encoding does not say aws-chunked any more, and r.Trailer has the trailers at
// io.EOF, none before.
//
// A body whose hash is not said, as for most services but S3, is read here and now;
// the caller has bounded it. Kinds: Invalid, TooLarge, Forbidden.
func (s *Signature) Verify(r *http.Request, secret string, now time.Time) error {
	if err := s.checkTime(now); err != nil {
		return err
	}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") && lower != "x-amz-user-agent" && !s.signs(lower) {
			return fail(lambent.Forbidden, ReasonUnsigned, "the header %.100q is there, and not signed", lower)
		}
	}
	payload := s.Payload
	switch {
	case payload != "":
	case s.Service == "s3" && s.Presigned:
		payload = UnsignedPayload
	case s.Service == "s3":
		return fail(lambent.Invalid, ReasonMissingHash, "the header x-amz-content-sha256 is missing")
	default:
		body, err := readBody(r)
		if err != nil {
			return err
		}
		payload = hexHash(body)
	}
	key := s.key(secret)
	matches := 0
	for _, path := range s.paths(r.URL) {
		want, err := s.sign(r, key, path, payload)
		if err != nil {
			return err
		}
		matches |= subtle.ConstantTimeCompare([]byte(want), []byte(s.signature))
	}
	if matches != 1 {
		return fail(lambent.Forbidden, ReasonMismatch, "the signature is not that of this request by access key %.40s: the secret is another one, or something was changed on the way", s.AccessKey)
	}
	if s.Payload == "" {
		return nil
	}
	return s.checkPayload(r, key)
}

func (s *Signature) signs(header string) bool {
	for _, h := range s.headers {
		if h == header {
			return true
		}
	}
	return false
}

// checkTime refuses what was signed too long ago, or will be.
func (s *Signature) checkTime(now time.Time) error {
	age := now.Sub(s.Time)
	switch {
	case s.Presigned && age > s.Expires:
		return fail(lambent.Forbidden, ReasonExpired, "the request has expired: it was signed at %s for %v", s.Time.Format(time.RFC3339), s.Expires)
	case !s.Presigned && age > Skew, age < -Skew:
		return fail(lambent.Forbidden, ReasonSkewed, "the difference between the request's time, %s, and the server's, %s, is too large: one of the clocks is wrong",
			s.Time.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// readBody reads a body into memory, which then is the body.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(min(r.ContentLength, 1<<20)))
	}
	if _, err := b.ReadFrom(r.Body); err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, lambent.Errorf(lambent.TooLarge, "sigv4", "the body is over the limit of %d bytes", tooLarge.Limit)
		}
		if lambent.Is(err, lambent.Throttled) { // it is no fault of the request's
			return nil, err
		}
		return nil, fail(lambent.Invalid, ReasonIncompleteEnd, "the body cannot be read: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(b.Bytes()))
	return b.Bytes(), nil
}

// checkPayload has the body checked as it is read.
func (s *Signature) checkPayload(r *http.Request, key []byte) error {
	body := r.Body
	if body == nil {
		body = http.NoBody
	}
	switch s.Payload {
	case UnsignedPayload:
		return nil
	case streamed, streamedTrailer, streamedUnsignedTrailer:
		length, err := strconv.ParseInt(r.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64)
		if err != nil || length < 0 {
			return fail(lambent.Invalid, ReasonIncompleteEnd, "x-amz-decoded-content-length is %.40q: a number of bytes is needed with chunks", r.Header.Get("X-Amz-Decoded-Content-Length"))
		}
		r.Body = newChunked(body, s, key, length, r)
		r.ContentLength = length
		r.TransferEncoding = nil
		r.Header.Del("Content-Length")
		unchunk(r.Header)
		return nil
	}
	want, err := hex.DecodeString(s.Payload)
	if err != nil || len(want) != sha256.Size {
		return fail(lambent.Invalid, ReasonPayload, "x-amz-content-sha256 is %.80q: a SHA-256 in hexadecimal, %s, or one of streams", s.Payload, UnsignedPayload)
	}
	r.Body = &hashed{ReadCloser: body, hash: sha256.New(), want: want}
	return nil
}

// unchunk removes aws-chunked from Content-Encoding.
func unchunk(h http.Header) {
	var kept []string
	for _, v := range h["Content-Encoding"] {
		for one := range strings.SplitSeq(v, ",") {
			if one = strings.TrimSpace(one); one != "" && !strings.EqualFold(one, "aws-chunked") {
				kept = append(kept, one)
			}
		}
	}
	if len(kept) == 0 {
		h.Del("Content-Encoding")
		return
	}
	h.Set("Content-Encoding", strings.Join(kept, ","))
}

// A hashed body has a hash at its end, or fails there.
type hashed struct {
	io.ReadCloser
	hash hash.Hash
	want []byte
}

// Read implements io.Reader.
func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	h.hash.Write(p[:n])
	if err == io.EOF && subtle.ConstantTimeCompare(h.hash.Sum(nil), h.want) != 1 {
		return n, fail(lambent.Invalid, ReasonPayload, "the body's SHA-256 is %x, and x-amz-content-sha256 another one", h.hash.Sum(nil))
	}
	return n, err
}
