package lambda

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
)

// What is read without encoding/json is what encoding/json reads.
func FuzzPlainIntegration(f *testing.F) {
	for _, s := range []string{
		`{"statusCode": 200, "headers": {"Content-Type": "text/plain"}, "body": "hello"}`,
		`{"statusCode":200,"body":"{\"a\": [1, \"\\u00e9\"]}","isBase64Encoded":false}`,
		` { "statusCode" : 404 , "headers" : { } , "body" : "" } `,
		`{"statusCode":200,"headers":{"a":"b","a":"c","A":"d"},"isBase64Encoded":true,"body":"aGk="}`,
		`{"statusCode":200,"statusCode":201}`, `{"statusCode":2e2}`, `{"statusCode":0200}`, `{"statusCode":200.0}`, `{"statusCode":"200"}`,
		`{"StatusCode":200,"body":"x"}`, `{"statusCode":200,"body":null}`, `{"statusCode":200,"cookies":["a=b"],"body":"x"}`,
		`{"statusCode":200,"headers":{"n":1,"b":true}}`, `{"statusCode":200,"headers":null}`, `{"statusCode":200,}`, `{"statusCode":200}x`, `{}`, `{"body":"x"}`,
		`{"statusCode":200,"headers":{"a":"b",}}`, `{"statusCode":200 "body":"x"}`, `{,"statusCode":200}`, `{"headers":{"\u0061":"\ud800"},"statusCode":200}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := plainIntegration(bytes.TrimSpace(b))
		if !ok {
			return
		}
		var want integration
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatalf("%s is read, and is not JSON: %v", b, err)
		}
		names := map[string]bool{}
		for name := range want.Headers {
			names[http.CanonicalHeaderKey(name)] = true
		}
		if len(names) < len(want.Headers) {
			return // either may be the one
		}
		gotStatus, gotHeader, gotBody, gotErr := got.answer()
		status, header, body, err := want.answer()
		if gotStatus != status || !reflect.DeepEqual(gotHeader, header) || !bytes.Equal(gotBody, body) || (gotErr == nil) != (err == nil) {
			t.Errorf("%s is read as %d %v %q %v, and is %d %v %q %v", b, gotStatus, gotHeader, gotBody, gotErr, status, header, body, err)
		}
	})
}

// The usual ones are among those that are read so.
func TestPlainIntegration(t *testing.T) {
	for _, s := range []string{
		`{"statusCode": 200, "headers": {"Content-Type": "text/plain"}, "body": "hello"}`,
		`{"statusCode":200,"body":"{\"a\": 1}","isBase64Encoded":false}`,
	} {
		if _, ok := plainIntegration([]byte(s)); !ok {
			t.Errorf("%s is not", s)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	body := []byte(`{"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": "{\"hello\": \"world\"}"}`)
	for b.Loop() {
		if _, _, _, err := parseHTTPResponse(body); err != nil {
			b.Fatal(err)
		}
	}
}
