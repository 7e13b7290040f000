package client

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// A DeadLetter is an asynchronous invocation that is not tried any more.
type DeadLetter struct {
	ID        string    `json:"id"` // The invocation's
	Qualifier string    `json:"qualifier,omitempty"`
	Trigger   string    `json:"trigger,omitempty"` // Whose event it is; not there: it was called directly
	Attempts  int       `json:"attempts"`
	Accepted  time.Time `json:"accepted"`
	Died      time.Time `json:"died"`
	Reason    string    `json:"reason"`            // The last failure, in one line
	Payload   []byte    `json:"payload,omitempty"` // As it came; an event as CloudEvents has it in JSON. Only where one is asked for
}

// A DeadLetterList is a function's oldest.
type DeadLetterList struct {
	DeadLetters []DeadLetter `json:"dead_letters"` // The oldest first
	Total       int          `json:"total"`        // How many there are
}

// A DeadLetterCount is how many something was done with.
type DeadLetterCount struct {
	Count int `json:"count"`
}

// A DeadSelection selects some of a function's dead letters. What is zero does not matter.
type DeadSelection struct {
	Selection
	Error string // a text in the last failure
}

func (s *DeadSelection) query() url.Values {
	q := s.Selection.query()
	maps.Copy(q, query("error", s.Error))
	return q
}

// DeadLetters returns the oldest that are selected, without their payloads; a limit of 0
// is the server's.
func (c *Client) DeadLetters(ctx context.Context, name string, s DeadSelection, limit int) (*DeadLetterList, error) {
	var l DeadLetterList
	q := s.query()
	maps.Copy(q, query("limit", number(limit)))
	return &l, c.do(ctx, http.MethodGet, functionPath(name, "deadletters"), q, nil, &l)
}

// DeadLetter returns one, with its payload.
func (c *Client) DeadLetter(ctx context.Context, name, id string) (*DeadLetter, error) {
	var d DeadLetter
	return &d, c.do(ctx, http.MethodGet, functionPath(name, "deadletters")+"/"+url.PathEscape(id), nil, nil, &d)
}

// RedriveDeadLetters has those that are selected run again, or all if nothing selects
// some; dry, they are only counted. It returns how many.
func (c *Client) RedriveDeadLetters(ctx context.Context, name string, s DeadSelection, dry bool) (int, error) {
	return c.deadLetters(ctx, http.MethodPost, functionPath(name, "deadletters", "redrive"), s, dry)
}

// PurgeDeadLetters removes them likewise.
func (c *Client) PurgeDeadLetters(ctx context.Context, name string, s DeadSelection, dry bool) (int, error) {
	return c.deadLetters(ctx, http.MethodDelete, functionPath(name, "deadletters"), s, dry)
}

func (c *Client) deadLetters(ctx context.Context, method, path string, s DeadSelection, dry bool) (int, error) {
	q := s.query()
	if len(q) == 0 {
		q.Set("all", "true")
	}
	if dry {
		q.Set("dry_run", "true")
	}
	var n DeadLetterCount
	err := c.do(ctx, method, path, q, nil, &n)
	return n.Count, err
}
