package sigv4

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"lambent"
)

// Hash is what x-amz-content-sha256 says of a payload.
func Hash(payload []byte) string { return hexHash(payload) }

// Sign signs a client's request, in its header Authorization, with its host, its
// Content-Type and its x-amz headers; payload is a Hash, or UnsignedPayload. Of the
// request nothing of these may change after it. Kind: Invalid.
func Sign(r *http.Request, accessKey, secret, region, service, payload string, now time.Time) error {
	if accessKey == "" || secret == "" || strings.ContainsAny(accessKey+region+service, "/, \n") {
		return lambent.Errorf(lambent.Invalid, "sigv4", "a request to %.40q in %.40q cannot be signed by access key %.40q", service, region, accessKey)
	}
	s := &Signature{AccessKey: accessKey, Region: region, Service: service, Time: now.UTC(), headers: []string{"host"}}
	r.Header.Set("X-Amz-Date", s.Time.Format(timeFormat))
	if service == "s3" || payload == UnsignedPayload {
		r.Header.Set(contentHeader, payload)
	}
	for name := range r.Header {
		if lower := strings.ToLower(name); lower == "content-type" || strings.HasPrefix(lower, "x-amz-") {
			s.headers = append(s.headers, lower)
		}
	}
	slices.Sort(s.headers)
	path := s.paths(r.URL)[0]
	if service == "s3" {
		r.URL.RawPath = path // sent as it is signed: Go would leave more as it is
	}
	signature, err := s.sign(r, s.key(secret), path, payload)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", algorithm+" Credential="+accessKey+"/"+s.scope()+", SignedHeaders="+strings.Join(s.headers, ";")+", Signature="+signature)
	return nil
}
