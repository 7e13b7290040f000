// Package sigv2 checks presigned requests of AWS Signature Version 2, S3's older form
// (https://docs.aws.amazon.com/AmazonS3/latest/API/RESTAuthentication.html#RESTAuthenticationQueryStringAuth),
// which AWS's SDK for Python and its command line still make of every presigned URL unless
// they are told otherwise. There is none of version 2 in headers: those clients sign all
// else by version 4.
//
// What it guarantees: a request that Verify lets pass was made by whoever has the secret, in
// method, path, Content-Type, Content-MD5, x-amz headers and what of the query chooses
// among resources, and has not expired.
package sigv2

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/internal/sigv4"
)

// resources are what of a query is signed.
var resources = []string{
	"accelerate", "acl", "cors", "defaultObjectAcl", "delete", "lifecycle", "location", "logging", "notification", "partNumber", "policy", "replication",
	"requestPayment", "response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type",
	"response-expires", "restore", "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
}

// IsPresigned reports whether a request is presigned so.
func IsPresigned(r *http.Request) bool {
	return strings.Contains(r.URL.RawQuery, "AWSAccessKeyId=") && strings.Contains(r.URL.RawQuery, "Signature=") && len(r.Header["Authorization"]) == 0
}

// AccessKey is whose signature it is said to be.
func AccessKey(r *http.Request) string { return r.URL.Query().Get("AWSAccessKeyId") }

// SessionToken is what comes with the signature of a key that is somebody's for a while.
func SessionToken(r *http.Request) string { return r.URL.Query().Get(sessionToken) }

const sessionToken = "x-amz-security-token"

// Verify holds a request to its signature, at a time. Kinds: Invalid, Forbidden.
func Verify(r *http.Request, secret string, now time.Time) error {
	query := r.URL.Query()
	fail := func(kind lambent.Kind, reason, format string, args ...any) error {
		e := lambent.Errorf(kind, "sigv2", format, args...)
		e.Reason = reason
		return e
	}
	expires, err := strconv.ParseInt(query.Get("Expires"), 10, 64)
	if err != nil {
		return fail(lambent.Invalid, sigv4.ReasonIncomplete, "Expires is %.40q: seconds since 1970", query.Get("Expires"))
	}
	text := strings.Join([]string{r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), query.Get("Expires")}, "\n") + "\n"
	fields := map[string]string{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") {
			fields[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	if token := SessionToken(r); token != "" { // it stands for the header
		fields[sessionToken] = token
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		text += name + ":" + fields[name] + "\n"
	}
	text += r.URL.EscapedPath()
	var chosen []string
	for _, name := range resources {
		if values, ok := query[name]; ok {
			if values[0] != "" {
				name += "=" + values[0]
			}
			chosen = append(chosen, name)
		}
	}
	if len(chosen) > 0 {
		text += "?" + strings.Join(chosen, "&")
	}
	h := hmac.New(sha1.New, []byte(secret))
	h.Write([]byte(text))
	if want := base64.StdEncoding.EncodeToString(h.Sum(nil)); !hmac.Equal([]byte(want), []byte(query.Get("Signature"))) {
		return fail(lambent.Forbidden, sigv4.ReasonMismatch, "the signature is not that of this request by access key %.40s: the secret is another one, or something was changed on the way", AccessKey(r))
	}
	if now.Unix() > expires {
		return fail(lambent.Forbidden, sigv4.ReasonExpired, "the request has expired: it was signed until %s", time.Unix(expires, 0).UTC().Format(time.RFC3339))
	}
	return nil
}
