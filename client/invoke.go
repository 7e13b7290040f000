package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"lambent"
)

// An InvokeRequest calls a function.
type InvokeRequest struct {
	Name      string
	Qualifier string // a version or an alias; "": latest
	Payload   io.Reader
	Length    int64         // of the payload; -1: not known; 0: that of Payload where its type tells
	Log       bool          // answer with the end of the log
	Usage     bool          // answer with what was used
	Wait      time.Duration // the call is not begun later than that; 0: whenever it can be
}

// InvokeAsync has a function called and does not wait for that: it returns the
// invocation's id, once the payload is on the server's disk. Of r only name, qualifier and
// payload count. Whoever sends the same key again, as the answer was lost, does not have
// the function called twice; an empty key is none.
func (c *Client) InvokeAsync(ctx context.Context, r InvokeRequest, key string) (id string, err error) {
	h := http.Header{"Prefer": {"respond-async"}, "Content-Type": {"application/json"}}
	if key != "" {
		h.Set("Idempotency-Key", key)
	}
	resp, err := c.send(ctx, call{
		method: http.MethodPost, path: functionPath(r.Name, "invocations"), query: query("qualifier", r.Qualifier),
		header: h, body: r.Payload, length: r.Length,
	})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	return resp.Header.Get("Lambent-Request-Id"), nil
}

// An Outcome is what is known at the end of an invocation.
type Outcome struct {
	RequestID    string
	Version      string
	Fault        lambent.FaultKind // "" where the function did well
	FaultMessage string
	LogTail      []byte
	Usage        *Invocation
}

// Invoke calls a function and writes what it returns to w, as it comes. The
// function's own failure is an outcome, and its body is written like any other.
func (c *Client) Invoke(ctx context.Context, r InvokeRequest, w io.Writer) (*Outcome, error) {
	h := http.Header{"Te": {"trailers"}, "Content-Type": {"application/json"}}
	if r.Log {
		h.Set("Lambent-Log", "tail")
	}
	if r.Usage {
		h.Set("Lambent-Report", "usage")
	}
	if r.Wait > 0 {
		h.Set("Lambent-Wait-Ms", strconv.FormatInt(max(1, r.Wait.Milliseconds()), 10))
	}
	resp, err := c.send(ctx, call{
		method: http.MethodPost, path: functionPath(r.Name, "invocations"), query: query("qualifier", r.Qualifier),
		header: h, body: r.Payload, length: r.Length,
	})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return nil, lambent.Errorf(lambent.Internal, "", "the answer cannot be written: %w", err)
			}
		}
		if err == io.EOF {
			return outcome(resp), nil
		}
		if err != nil {
			return nil, c.broken(ctx, err)
		}
	}
}

// outcome collects what headers and, after a streamed answer, trailers say.
func outcome(resp *http.Response) *Outcome {
	get := func(name string) string {
		if v := resp.Trailer.Get(name); v != "" {
			return v
		}
		return resp.Header.Get(name)
	}
	o := &Outcome{
		RequestID: get("Lambent-Request-Id"), Version: get("Lambent-Version"),
		Fault: lambent.FaultKind(get("Lambent-Fault")), FaultMessage: get("Lambent-Fault-Message"),
	}
	o.LogTail, _ = base64.StdEncoding.DecodeString(get("Lambent-Log-Tail")) // without it there is none
	var u Invocation
	if json.Unmarshal([]byte(get("Lambent-Usage")), &u) == nil {
		o.Usage = &u
	}
	return o
}

// A LogQuery selects lines of a function's log. Since and Until are times (RFC
// 3339) or durations before now, such as 5m.
type LogQuery struct {
	Since, Until  string
	Request, Grep string
	Limit         int
	Follow        bool
}

// Logs yields the lines of a function's log; with Follow until ctx is done or the
// server ends. An error is the last thing that is yielded.
func (c *Client) Logs(ctx context.Context, name string, l LogQuery) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		q := query("since", l.Since, "until", l.Until, "request", l.Request, "grep", l.Grep, "limit", number(l.Limit))
		if l.Follow {
			q.Set("follow", strconv.FormatBool(true))
		}
		resp, err := c.send(ctx, call{method: http.MethodGet, path: functionPath(name, "logs"), query: q})
		if err != nil {
			yield(LogLine{}, err)
			return
		}
		defer resp.Body.Close()
		for line, err := range lines[LogLine](ctx, c, resp.Body) {
			if err == nil && line.Problem != nil {
				err = line.Problem.err()
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// BuildLog writes what a function's last build said to w.
func (c *Client) BuildLog(ctx context.Context, name string, w io.Writer) error {
	resp, err := c.send(ctx, call{method: http.MethodGet, path: functionPath(name, "build")})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return c.broken(ctx, err)
	}
	return nil
}

// A Period bounds what is looked at: times (RFC 3339) or durations before now,
// such as 30d; "" is no bound.
type Period struct{ Since, Until string }

// Invocations returns a function's usage records, the newest first.
func (c *Client) Invocations(ctx context.Context, name string, p Period, limit int) (*InvocationList, error) {
	var l InvocationList
	q := query("since", p.Since, "until", p.Until, "limit", number(limit))
	return &l, c.do(ctx, http.MethodGet, functionPath(name, "invocations"), q, nil, &l)
}

// Invocation returns the usage records of one invocation, the last attempt first.
func (c *Client) Invocation(ctx context.Context, id string) (*InvocationList, error) {
	var l InvocationList
	return &l, c.do(ctx, http.MethodGet, "/v1/invocations/"+id, nil, nil, &l)
}

// Usage sums up what functions used, and prices it by a price book, or by "cloud" with
// each function's own; function and price may be "".
func (c *Client) Usage(ctx context.Context, p Period, function, price string) (*UsageReport, error) {
	var r UsageReport
	q := query("since", p.Since, "until", p.Until, "function", function, "price", price)
	return &r, c.do(ctx, http.MethodGet, "/v1/usage", q, nil, &r)
}
