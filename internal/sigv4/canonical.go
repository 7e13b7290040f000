package sigv4

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"lambent"
)

// emptyHash is that of nothing.
var emptyHash = hexHash(nil)

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

// key is what strings are signed with for the signature's day, region and service.
func (s *Signature) key(secret string) []byte {
	k := mac([]byte("AWS4"+secret), s.Time.Format(dateFormat))
	return mac(mac(mac(k, s.Region), s.Service), terminator)
}

// sign returns the signature of a request with a path of paths, whose payload is payload
// in x-amz-content-sha256.
func (s *Signature) sign(r *http.Request, key []byte, path, payload string) (string, error) {
	c, err := s.canonical(r, path, payload)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(mac(key, algorithm+"\n"+s.Time.Format(timeFormat)+"\n"+s.scope()+"\n"+hexHash([]byte(c)))), nil
}

// paths is how the path of a request is signed. Of S3 it is a name, encoded once: by the
// rule, or as whoever sent it has done. Of other services it is that, encoded once more.
func (s *Signature) paths(u *url.URL) []string {
	sent := cmp.Or(u.EscapedPath(), "/")
	if s.Service != "s3" {
		return []string{escape(sent, true)}
	}
	if byRule := escape(cmp.Or(u.Path, "/"), true); byRule != sent {
		return []string{byRule, sent}
	}
	return []string{sent}
}

// canonical is a request in the form in which all who sign write it.
func (s *Signature) canonical(r *http.Request, path, payload string) (string, error) {
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + query + "\n")
	for _, name := range s.headers {
		b.WriteString(name + ":" + headerValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + payload)
	return b.String(), nil
}

// headerValue is what was signed of a header, of those too that Go's servers keep
// elsewhere.
func headerValue(r *http.Request, name string) string {
	values := r.Header[http.CanonicalHeaderKey(name)]
	switch {
	case name == "host":
		if r.Host == "" { // of a client
			return r.URL.Host
		}
		return r.Host
	case len(values) > 0:
	case name == "content-length" && r.ContentLength >= 0:
		return strconv.FormatInt(r.ContentLength, 10)
	case name == "transfer-encoding":
		values = r.TransferEncoding
	}
	if len(values) == 1 {
		return spaced(values[0])
	}
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = spaced(v)
	}
	return strings.Join(all, ",")
}

// spaced is a value without spaces around it, and with one where there are several.
func spaced(v string) string {
	v = strings.Trim(v, " \t")
	if !strings.Contains(v, "  ") {
		return v
	}
	var b strings.Builder
	for i := range len(v) {
		if v[i] != ' ' || v[i-1] != ' ' { // v does not begin with one
			b.WriteByte(v[i])
		}
	}
	return b.String()
}

// canonicalQuery is a query in the order of its names and values, all but the signature.
func canonicalQuery(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	var pairs [][2]string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		var p [2]string
		for i, part := range []string{name, value} {
			text, err := url.QueryUnescape(part)
			if err != nil {
				return "", fail(lambent.Invalid, ReasonIncomplete, "the query cannot be read: %w", err)
			}
			p[i] = escape(text, false)
		}
		if p[0] != "X-Amz-Signature" {
			pairs = append(pairs, p)
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String(), nil
}

// escape is text with all but RFC 3986's unreserved characters percent-encoded, and
// slashes as they are if it is a path.
func escape(text string, path bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~', c == '/' && path:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
