// Package echo is the echo as a function of Google's.
package echo

import (
	"io"
	"net/http"
)

// Echo answers with what it gets.
func Echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, _ = w.Write(b) // whoever is gone needs no answer
}
