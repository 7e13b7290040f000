package client

import (
	"context"
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

// DeadLetters returns a function's oldest, without their payloads; a limit of 0 is the
// server's.
func (c *Client) DeadLetters(ctx context.Context, name string, limit int) (*DeadLetterList, error) {
	var l DeadLetterList
	return &l, c.do(ctx, http.MethodGet, functionPath(name, "deadletters"), query("limit", number(limit)), nil, &l)
}

// DeadLetter returns one, with its payload.
func (c *Client) DeadLetter(ctx context.Context, name, id string) (*DeadLetter, error) {
	var d DeadLetter
	return &d, c.do(ctx, http.MethodGet, functionPath(name, "deadletters")+"/"+url.PathEscape(id), nil, nil, &d)
}

// which is of one dead letter, or with an empty id of all.
func which(id string) url.Values {
	if id == "" {
		return query("all", "true")
	}
	return query("id", id)
}

// RedriveDeadLetters has one run again, or with an empty id all that the function has,
// and returns how many.
func (c *Client) RedriveDeadLetters(ctx context.Context, name, id string) (int, error) {
	var n DeadLetterCount
	err := c.do(ctx, http.MethodPost, functionPath(name, "deadletters")+"/redrive", which(id), nil, &n)
	return n.Count, err
}

// PurgeDeadLetters removes one, or with an empty id all that the function has, and
// returns how many.
func (c *Client) PurgeDeadLetters(ctx context.Context, name, id string) (int, error) {
	var n DeadLetterCount
	err := c.do(ctx, http.MethodDelete, functionPath(name, "deadletters"), which(id), nil, &n)
	return n.Count, err
}
