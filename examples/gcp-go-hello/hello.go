// Package hello says hello, as a function of Google's.
package hello

import (
	"cmp"
	"encoding/json"
	"log"
	"net/http"
	"runtime"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
)

func init() { functions.HTTP("Hello", hello) }

func hello(w http.ResponseWriter, r *http.Request) {
	var body struct{ Name string }
	_ = json.NewDecoder(r.Body).Decode(&body) // without one there is the query, or nobody
	name := cmp.Or(r.URL.Query().Get("name"), body.Name, "world")
	log.Printf("saying hello to %s in request %s", name, r.Header.Get("Function-Execution-Id"))
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"message": "Hello, " + name + "!", "runtime": runtime.Version()})
}
