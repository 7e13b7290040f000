// Package echo is the echo as a function of Google's.
package echo

import (
	"io"
	"net/http"
)

// Echo answers with what it gets.
func Echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.Copy(w, r.Body) // whoever is gone needs no answer
}
