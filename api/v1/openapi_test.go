package v1_test

import (
	"bytes"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	v1 "lambent/api/v1"
	"lambent/auth"
)

var update = flag.Bool("update", false, "rewrite openapi.json")

// TestOpenAPI holds the document to the file that is checked in: a change of the
// wire shows as its difference.
func TestOpenAPI(t *testing.T) {
	h := v1.New(v1.Config{Authenticate: func(*http.Request) (auth.Identity, error) {
		return auth.Identity{Role: auth.RoleAdmin}, nil
	}})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/openapi.json", nil))
	got := w.Body.Bytes()
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, got)
	}
	if *update {
		if err := os.WriteFile("openapi.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the document differs from openapi.json: run go test ./api/v1 -run OpenAPI -update, and look at the difference")
	}
}
