package v1_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
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
	checkParameters(t, got)
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

// checkParameters checks that what stands in a path is documented, and that
// every operation takes a project.
func checkParameters(t *testing.T, document []byte) {
	t.Helper()
	var d struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ In, Name string }
		}
	}
	if err := json.Unmarshal(document, &d); err != nil {
		t.Fatal(err)
	}
	inPath := regexp.MustCompile(`\{(\w+)\}`)
	for path, operations := range d.Paths {
		for method, o := range operations {
			has := map[string]bool{}
			for _, p := range o.Parameters {
				has[p.In+" "+p.Name] = true
			}
			want := []string{"header Lambent-Project", "query project"}
			for _, m := range inPath.FindAllStringSubmatch(path, -1) {
				want = append(want, "path "+m[1])
			}
			for _, w := range want {
				if !has[w] {
					t.Errorf("%s %s does not document the parameter %q", method, path, w)
				}
			}
		}
	}
}
