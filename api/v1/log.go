package v1

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"lambent"
	"lambent/auth"
	"lambent/logs"
)

// A LogLine is one line of a function's log.
type LogLine struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version,omitempty" doc:"That wrote it: a number, or latest" example:"latest"`
	Request string    `json:"request,omitempty" doc:"The invocation during which it was written" example:"8f5c3a0e-6f0b-4b8e-9d5a-3f6f3f1f2a10"`
	Text    string    `json:"text" example:"resized in 12 ms"`
	Dropped int       `json:"dropped,omitempty" doc:"Lines that are missing before this one, because the disk or this reader was too slow"`
	Problem *Problem  `json:"problem,omitempty" doc:"Why reading ended early; the last line"`
}

func (s *service) logOperations(api huma.API) {
	s.plain(api, &huma.Operation{
		OperationID: "read-log", Method: http.MethodGet, Path: "/v1/functions/{name}/logs", Tags: []string{"logs"},
		Summary:     "Read a function's log",
		Description: "Lines in the order of time, the newest ones if there are more than limit. A reader that follows and is too slow loses lines, and is told how many.",
		Parameters: []*huma.Param{
			functionParam(),
			param("query", "since", "A time (RFC 3339), or a duration before now such as 5m"),
			param("query", "until", "Likewise"),
			param("query", "request", "Only lines of this invocation"),
			param("query", "grep", "Only lines that match this regular expression (RE2)"),
			param("query", "limit", "The most lines of the past; without one or since 1000, and none for who follows"),
			param("query", "follow", "true: go on with the lines that come"),
		},
		Responses: map[string]*huma.Response{"200": {
			Description: "One JSON object on each line",
			Content:     map[string]*huma.MediaType{ndjson: {Schema: schema[LogLine](api)}},
		}},
	}, auth.RoleAdmin, s.readLog)
	s.plain(api, &huma.Operation{
		OperationID: "read-build-log", Method: http.MethodGet, Path: "/v1/functions/{name}/build", Tags: []string{"logs"},
		Summary:     "Read what a function's last build said",
		Description: "That of a function that was never made, too, because its first build failed.",
		Parameters:  []*huma.Param{functionParam()},
		Responses: map[string]*huma.Response{"200": {
			Description: "The output of the tools",
			Content:     map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, auth.RoleAdmin, s.readBuildLog)
}

func (s *service) readBuildLog(w http.ResponseWriter, r *http.Request, project string) error {
	name, err := checkedName(project, r.PathValue("name"), "")
	if err != nil {
		return err
	}
	text, err := s.BuildLog(name)
	if err != nil {
		return err
	}
	defer text.Close()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.Copy(w, text) // a client that is gone is not told
	return nil
}

const defaultLogLines = 1000

func (s *service) readLog(w http.ResponseWriter, r *http.Request, project string) error {
	name, err := checkedName(project, r.PathValue("name"), "")
	if err != nil {
		return err
	}
	filter, follow, err := logFilter(r.URL.Query(), time.Now())
	if err != nil {
		return err
	}
	if _, err := s.Control.Get(name); err != nil {
		return err
	}
	w.Header().Set("Content-Type", ndjson)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	flush := func() error { return nil }
	if follow {
		flush = http.NewResponseController(w).Flush
		if err := flush(); err != nil { // the client learns that it is followed before there is a line
			return gone(err)
		}
	}
	ctx, lines := r.Context(), s.Logs.Query
	if follow {
		lines = s.Logs.Follow
		var stop context.CancelFunc
		ctx, stop = context.WithCancel(ctx)
		defer stop()
		go func() {
			select {
			case <-s.Closing:
				stop()
			case <-ctx.Done():
			}
		}()
	}
	for e, err := range lines(ctx, name, filter) {
		if err != nil {
			if ctx.Err() == nil {
				_ = out.Encode(LogLine{Time: time.Now().UTC(), Problem: s.problem(lineOf(r), err)})
			}
			return nil
		}
		if out.Encode(LogLine{Time: e.Time, Version: e.Version, Request: e.Request, Text: e.Text, Dropped: e.Dropped}) != nil || flush() != nil {
			return nil // the client is gone
		}
	}
	return nil
}

// logFilter reads what a reader wants. The newest lines are wanted where there
// are more than the limit.
func logFilter(q url.Values, now time.Time) (f logs.Filter, follow bool, err error) {
	f.Tail = true
	for name, values := range q {
		value := values[0]
		needs := ""
		switch name {
		case "project":
		case "since":
			f.Since, err = moment(value, now)
			needs = "a time (RFC 3339) or a duration such as 5m"
		case "until":
			f.Until, err = moment(value, now)
			needs = "a time (RFC 3339) or a duration such as 5m"
		case "request":
			f.Request = value
		case "grep":
			f.Grep, err = regexp.Compile(value)
			needs = "a regular expression (RE2)"
		case "limit":
			if f.Limit, err = strconv.Atoi(value); err == nil && f.Limit < 1 {
				err = strconv.ErrRange
			}
			needs = "a number from 1"
		case "follow":
			follow, err = strconv.ParseBool(value)
			needs = "true or false"
		default:
			return f, false, lambent.Errorf(lambent.Invalid, "v1.logs", "%.100s: unknown query parameter", name)
		}
		if err != nil {
			return f, false, lambent.Errorf(lambent.Invalid, "v1.logs", "%s is %.100q: %s is needed", name, value, needs)
		}
	}
	if f.Limit == 0 && f.Since.IsZero() && !follow {
		f.Limit = defaultLogLines
	}
	return f, follow, nil
}

// moment reads a time, or a duration before now; days and weeks are allowed.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	unit := time.Duration(0)
	switch s[len(s)-1] {
	case 'd':
		unit = 24 * time.Hour
	case 'w':
		unit = 7 * 24 * time.Hour
	}
	if unit != 0 {
		n, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
		return now.Add(-time.Duration(n) * unit), err
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		d = -d
	}
	return now.Add(-d), err
}
