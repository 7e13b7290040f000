// Package count streams a count, as a function of Google's.
package count

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

var running atomic.Int32

// Count streams lines while they are being made. It needs no framework to be one of
// Google's: a function of a request that is exported is one.
func Count(w http.ResponseWriter, r *http.Request) {
	args := struct{ Count, Delay int }{3, 100}
	_ = json.NewDecoder(r.Body).Decode(&args) // without a body there is the query
	count, _ := strconv.Atoi(r.URL.Query().Get("count"))
	delay, _ := strconv.Atoi(r.URL.Query().Get("delay")) // milliseconds
	count, delay = cmp.Or(count, args.Count), cmp.Or(delay, args.Delay)

	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Running", fmt.Sprint(running.Add(1))) // how many requests this instance has, with this one
	defer running.Add(-1)
	for i := range count {
		fmt.Fprintf(w, "%d of %d\n", i+1, count)
		w.(http.Flusher).Flush()
		time.Sleep(time.Duration(delay) * time.Millisecond)
	}
}
