package v1

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
)

const ndjson = "application/x-ndjson"

// A progressEvent and a problemEvent are the lines that all streams of events have
// in common.
type (
	progressEvent struct {
		Progress string `json:"progress"`
	}
	problemEvent struct {
		Problem *Problem `json:"problem"`
	}
)

// stream answers a client that accepts application/x-ndjson: while do is under way
// with what it says, and then with the event that it returns, or with its error.
func (s *service) stream(w http.ResponseWriter, r *http.Request, do func(progress io.Writer) (last any, err error)) {
	w.Header().Set("Content-Type", ndjson)
	out := &eventWriter{w: w, flush: http.NewResponseController(w).Flush}
	last, err := do(out)
	if err != nil {
		last = problemEvent{s.problem(lineOf(r), err)}
	}
	out.end(last)
}

// An eventWriter sends what is written to it as lines of progress. A client that
// is gone stops nothing here; the context does.
type eventWriter struct {
	w     io.Writer
	flush func() error

	mu   sync.Mutex // serialises lines: a build may write from several goroutines
	line []byte     // not complete yet
}

const maxProgressLine = 8 << 10

// Write implements io.Writer.
func (e *eventWriter) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.line = append(e.line, p...)
	for {
		at := bytes.IndexByte(e.line, '\n')
		if at < 0 && len(e.line) < maxProgressLine {
			return len(p), nil
		}
		rest := e.line[len(e.line):]
		line := e.line
		if at >= 0 {
			line, rest = e.line[:at], e.line[at+1:]
		}
		e.progressLocked(line)
		e.line = append(e.line[:0], rest...)
	}
}

// end sends what is left, and the last event.
func (e *eventWriter) end(last any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.progressLocked(e.line)
	e.line = nil
	e.sendLocked(last)
}

func (e *eventWriter) progressLocked(line []byte) {
	if len(line) > 0 { // an empty one says nothing
		e.sendLocked(progressEvent{strings.ToValidUTF8(string(line), "\uFFFD")})
	}
}

func (e *eventWriter) sendLocked(event any) {
	if json.NewEncoder(e.w).Encode(event) == nil {
		_ = e.flush()
	}
}
