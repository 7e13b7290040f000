package sigv4_test

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"lambent/internal/sigv4"
)

func readRequest(wire string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
}

// The example of AWS's documentation, whose signatures it gives
// (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html, and
// sigv4-streaming-trailers.html).
const (
	exampleKey    = "AKIAIOSFODNN7EXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

var exampleTime = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)

func example(t *testing.T, payload, signature string, more map[string]string, body string) *http.Request {
	t.Helper()
	r, _ := http.NewRequest("PUT", "http://s3.amazonaws.com/examplebucket/chunkObject.txt", strings.NewReader(body))
	headers := []string{"content-encoding", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-decoded-content-length", "x-amz-storage-class"}
	r.Header.Set("Content-Encoding", "aws-chunked")
	r.Header.Set("X-Amz-Content-Sha256", payload)
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	r.Header.Set("X-Amz-Decoded-Content-Length", "66560")
	r.Header.Set("X-Amz-Storage-Class", "REDUCED_REDUNDANCY")
	if payload == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" {
		headers = append(headers[:1:1], append([]string{"content-length"}, headers[1:]...)...)
		r.ContentLength = 66824
	}
	for k, v := range more {
		r.Header.Set(k, v)
		headers = append(headers, strings.ToLower(k))
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleKey+"/20130524/us-east-1/s3/aws4_request,SignedHeaders="+strings.Join(headers, ";")+",Signature="+signature)
	return arrive(t, r)
}

func TestExamplesOfTheDocumentation(t *testing.T) {
	t.Parallel()
	a, b := strings.Repeat("a", 65536), strings.Repeat("a", 1024)
	body := "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + a + "\r\n" +
		"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + b + "\r\n" +
		"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
	const seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
	r := example(t, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", seed, nil, body)
	got, err := verify(r, exampleSecret, exampleTime)
	if err != nil || got != a+b {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r.ContentLength != 66560 || r.Header.Get("Content-Encoding") != "" {
		t.Errorf("the content has length %d and encoding %q", r.ContentLength, r.Header.Get("Content-Encoding"))
	}
}

// chunks is a body in chunks, signed by a hand other than the one that reads it.
type chunks struct {
	payload string
	trailer string // a line
	parts   []string
	length  int // what is said, if not 0
	edit    func(string) string
}

func (c chunks) request(t testing.TB) *http.Request {
	t.Helper()
	length := 0
	for _, p := range c.parts {
		length += len(p)
	}
	if c.length != 0 {
		length = c.length
	}
	r, _ := http.NewRequest("PUT", "http://localhost/b/k", nil)
	r.Header.Set("Content-Encoding", "aws-chunked, gzip")
	r.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(length))
	if name, _, ok := strings.Cut(c.trailer, ":"); ok {
		r.Header.Set("X-Amz-Trailer", name)
	}
	if err := sigv4.Sign(r, testKey, testSecret, "us-east-1", "s3", c.payload, now); err != nil {
		t.Fatal(err)
	}
	_, previous, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }
	mac := func(key []byte, s string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	key := mac(mac(mac(mac([]byte("AWS4"+testSecret), "20260301"), "us-east-1"), "s3"), "aws4_request")
	sign := func(what, hashes string) string {
		previous = hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256-"+what+"\n20260301T120000Z\n20260301/us-east-1/s3/aws4_request\n"+previous+"\n"+hashes))
		return previous
	}
	var b strings.Builder
	isSigned := strings.Contains(c.payload, "HMAC")
	for _, p := range append(c.parts, "") {
		fmt.Fprintf(&b, "%x", len(p))
		if isSigned {
			b.WriteString(";chunk-signature=" + sign("PAYLOAD", sum("")+"\n"+sum(p)))
		}
		b.WriteString("\r\n")
		if p != "" {
			b.WriteString(p + "\r\n")
		}
	}
	if c.trailer != "" {
		b.WriteString(c.trailer + "\r\n")
		if isSigned {
			b.WriteString("x-amz-trailer-signature:" + sign("TRAILER", sum(c.trailer+"\n")) + "\r\n")
		}
	}
	b.WriteString("\r\n")
	body := b.String()
	if c.edit != nil {
		body = c.edit(body)
	}
	in := arrive(t, r)
	in.Body = io.NopCloser(iotest.HalfReader(strings.NewReader(body)))
	return in
}

func TestChunks(t *testing.T) {
	t.Parallel()
	const trailer = "x-amz-checksum-crc32c:sOO8/Q=="
	for _, payload := range []string{"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"} {
		for _, parts := range [][]string{nil, {"one"}, {strings.Repeat("x", 100_000), "y", strings.Repeat("z", 70_000)}} {
			c := chunks{payload: payload, parts: parts}
			if strings.HasSuffix(payload, "TRAILER") {
				c.trailer = trailer
			}
			r := c.request(t)
			got, err := verify(r, testSecret, now)
			if err != nil || got != strings.Join(parts, "") {
				t.Errorf("%s: %d bytes, %v", payload, len(got), err)
			}
			if r.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("Content-Encoding %q", r.Header.Get("Content-Encoding"))
			}
			if want := c.trailer != ""; want != (r.Trailer.Get("X-Amz-Checksum-Crc32c") == "sOO8/Q==") {
				t.Errorf("%s: the trailers are %v", payload, r.Trailer)
			}
		}
	}
	parts := []string{"the first", "the second"}
	replace := func(old, with string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				panic(old)
			}
			return strings.Replace(s, old, with, 1)
		}
	}
	const signed, unsigned = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	for name, c := range map[string]struct {
		chunks
		want string
	}{
		"content":               {chunks{payload: signed, edit: replace("first", "fIrst")}, sigv4.ReasonMismatch},
		"content of the last":   {chunks{payload: signed, edit: replace("second", "sEcond")}, sigv4.ReasonMismatch},
		"trailer":               {chunks{payload: signed, edit: replace("sOO8", "sOO9")}, sigv4.ReasonMismatch},
		"trailer's signature":   {chunks{payload: signed, edit: replace("x-amz-trailer-signature:", "x-amz-trailer-signature:0")}, sigv4.ReasonMismatch},
		"no trailer":            {chunks{payload: unsigned, edit: replace(trailer+"\r\n", "")}, sigv4.ReasonIncompleteEnd},
		"another trailer":       {chunks{payload: unsigned, edit: replace("crc32c", "crc32")}, sigv4.ReasonIncompleteEnd},
		"trailer twice":         {chunks{payload: unsigned, edit: replace(trailer, trailer+"\r\n"+trailer)}, sigv4.ReasonIncompleteEnd},
		"no last chunk":         {chunks{payload: unsigned, edit: func(s string) string { s, _, _ = strings.Cut(s, "0\r\n"); return s }}, sigv4.ReasonIncompleteEnd},
		"cut in a chunk":        {chunks{payload: unsigned, edit: func(s string) string { return s[:10] }}, sigv4.ReasonIncompleteEnd},
		"nothing":               {chunks{payload: unsigned, edit: func(string) string { return "" }}, sigv4.ReasonIncompleteEnd},
		"more than it says":     {chunks{payload: unsigned, edit: replace("first", "first!")}, sigv4.ReasonIncompleteEnd},
		"less than it says":     {chunks{payload: unsigned, edit: replace("first\r\n", "firs\r\n")}, sigv4.ReasonIncompleteEnd},
		"no length":             {chunks{payload: unsigned, edit: replace("9\r\n", "\r\n")}, sigv4.ReasonIncompleteEnd},
		"negative length":       {chunks{payload: unsigned, edit: replace("9\r\n", "-9\r\n")}, sigv4.ReasonIncompleteEnd},
		"length with a sign":    {chunks{payload: unsigned, edit: replace("9\r\n", "+9\r\n")}, sigv4.ReasonIncompleteEnd},
		"a line without end":    {chunks{payload: unsigned, edit: replace("9\r\n", strings.Repeat("0", 9000)+"9\r\n")}, sigv4.ReasonIncompleteEnd},
		"something after it":    {chunks{payload: unsigned, edit: func(s string) string { return s + "GET / HTTP/1.1" }}, sigv4.ReasonIncompleteEnd},
		"longer than was said":  {chunks{payload: unsigned, length: 3}, sigv4.ReasonIncompleteEnd},
		"shorter than was said": {chunks{payload: unsigned, length: 300}, sigv4.ReasonIncompleteEnd},
		"without signatures":    {chunks{payload: signed, edit: func(string) string { return "3\r\nabc\r\n0\r\n\r\n" }}, sigv4.ReasonMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			c.parts, c.trailer = parts, trailer
			_, err := verify(c.request(t), testSecret, now)
			wantReason(t, err, c.want)
		})
	}
	r := chunks{payload: unsigned, parts: parts, trailer: trailer}.request(t)
	r.Header.Del("X-Amz-Decoded-Content-Length")
	if err := sigv4.Sign(r, testKey, testSecret, "us-east-1", "s3", unsigned, now); err != nil {
		t.Fatal(err)
	}
	_, err := verify(r, testSecret, now)
	wantReason(t, err, sigv4.ReasonIncompleteEnd)
}

// Whatever a stranger sends, it is refused or read, and nothing worse.
func FuzzVerify(f *testing.F) {
	good := signed(f, nil)
	f.Add(good.Header.Get("Authorization"), good.Header.Get("X-Amz-Date"), good.Header.Get("X-Amz-Content-Sha256"), "x=1", "the body")
	f.Add("", "20260301T120000Z", "", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a%2F20260301%2Fb%2Fs3%2Faws4_request&X-Amz-Date=20260301T120000Z&X-Amz-Expires=9&X-Amz-SignedHeaders=host&X-Amz-Signature="+strings.Repeat("0", 64), "")
	f.Fuzz(func(t *testing.T, authorization, date, payload, query, body string) {
		r := &http.Request{Method: "PUT", Host: "localhost", Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
		r.URL = signed(t, nil).URL
		r.URL.RawQuery = query
		r.Header["X-Amz-Date"], r.Header["X-Amz-Content-Sha256"] = []string{date}, []string{payload}
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		sigv4.IsSigned(r)
		_, _ = verify(r, testSecret, now)
	})
}

// Chunks that are not signed are read from whatever follows a head that is.
func FuzzChunks(f *testing.F) {
	f.Add("3\r\nabc\r\n0\r\nx-amz-checksum-crc32c:sOO8/Q==\r\n\r\n")
	f.Fuzz(func(t *testing.T, body string) {
		c := chunks{payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER", length: 3, trailer: "x-amz-checksum-crc32c:x", edit: func(string) string { return body }}
		got, err := verify(c.request(t), testSecret, now)
		if err == nil && len(got) != 3 {
			t.Errorf("%q is read as %q", body, got)
		}
	})
}
