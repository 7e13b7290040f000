package lambent

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// An Async is how a function wants what it is given asynchronously: it belongs to the
// function, not to a version. Zero values are the defaults, in the words of
// [Async.WithDefaults].
type Async struct {
	Attempts int           `json:"attempts,omitempty"` // in all, the first one too
	Backoff  time.Duration `json:"backoff,omitempty"`  // from the first failure to the second attempt
	Factor   float64       `json:"factor,omitempty"`   // of each further wait to the one before
	MaxAge   time.Duration `json:"max_age,omitempty"`  // since it was accepted: after that it is not tried any more

	// OnSuccess and OnFailure are who is told of its end: nobody, a function of the project
	// ("function:NAME", with ":QUALIFIER" or without), one of its queues ("queue:NAME"), who
	// has a trigger for such events ("events"), or a webhook (its URL). What OnFailure is told
	// of is no dead letter.
	OnSuccess AsyncDestination `json:"on_success,omitempty"`
	OnFailure AsyncDestination `json:"on_failure,omitempty"`
}

// An AsyncDestination is where the outcome of an invocation goes.
type AsyncDestination string

// ToEvents is the destination of those who have a trigger with a pattern.
const ToEvents AsyncDestination = "events"

// Function returns the function of a project that the destination is, if it is one.
func (d AsyncDestination) Function(project string) (n Name, ok bool, err error) {
	name, ok := strings.CutPrefix(string(d), "function:")
	if !ok {
		return Name{}, false, nil
	}
	n.Project = project
	n.Function, n.Qualifier, _ = strings.Cut(name, ":")
	return n, true, n.Validate()
}

// Queue returns the name of the queue that the destination is, if it is one.
func (d AsyncDestination) Queue() (name string, ok bool) {
	return strings.CutPrefix(string(d), "queue:")
}

// Webhook returns the URL of the receiver that the destination is, if it is one.
func (d AsyncDestination) Webhook() (url string, ok bool) {
	s := string(d)
	return s, strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://")
}

// maxWebhookURL is how long the URL of a receiver may be.
const maxWebhookURL = 1024

// Validate checks the form.
func (d AsyncDestination) Validate() error {
	if _, ok, err := d.Function(DefaultProject); ok || d == "" || d == ToEvents {
		return err
	}
	if name, ok := d.Queue(); ok {
		if strings.HasSuffix(name, FIFO) {
			return Errorf(Invalid, "async", "queue %.100q is in order, and what a destination is told is not", name)
		}
		return (&Queue{Name: name}).Validate()
	}
	if s, ok := d.Webhook(); ok {
		return checkWebhook(s)
	}
	return Errorf(Invalid, "async", "destination %.80q: it is function:NAME, queue:NAME, events, or the URL of a webhook", string(d))
}

func checkWebhook(s string) error {
	bad := func(why string) error { return Errorf(Invalid, "async", "webhook %.80q: %s", s, why) }
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "":
		return bad("it is not of the form https://HOST/PATH")
	case len(s) > maxWebhookURL:
		return bad(fmt.Sprintf("it is longer than %d characters", maxWebhookURL))
	case u.User != nil:
		return Errorf(Invalid, "async", "the webhook at %s has a password in its URL, where everybody would see it: its receiver can tell by the signature who sends", u.Host).
			WithHint("lambent token webhook")
	case u.Fragment != "":
		return bad("it has a fragment, which no server is told")
	}
	return nil
}

// WithDefaults fills what is left out as AWS Lambda does: three attempts, the second
// after a minute and the third after two more, within six hours.
func (a Async) WithDefaults() Async {
	if a.Attempts == 0 {
		a.Attempts = 3
	}
	if a.Backoff == 0 {
		a.Backoff = time.Minute
	}
	if a.Factor == 0 {
		a.Factor = 2
	}
	if a.MaxAge == 0 {
		a.MaxAge = 6 * time.Hour
	}
	return a
}

// Validate checks the bounds.
func (a Async) Validate() error {
	switch {
	case a.Attempts < 0 || a.Attempts > 1000:
		return Errorf(Invalid, "async", "%d attempts are outside 1 to 1000", a.Attempts)
	case a.Backoff < 0 || a.Backoff > 24*time.Hour:
		return Errorf(Invalid, "async", "backoff %v is outside 1ms to 24h", a.Backoff)
	case a.Factor != 0 && !(a.Factor >= 1 && a.Factor <= 10):
		return Errorf(Invalid, "async", "backoff factor %v is outside 1 to 10", a.Factor)
	case a.MaxAge < 0 || a.MaxAge > 14*24*time.Hour:
		return Errorf(Invalid, "async", "maximum age %v is outside 1ms to 336h", a.MaxAge)
	}
	if err := a.OnSuccess.Validate(); err != nil {
		return err
	}
	return a.OnFailure.Validate()
}

// Wait returns how long it is from an attempt that failed, of that number from 1, to
// the next one.
func (a Async) Wait(attempt int) time.Duration {
	a = a.WithDefaults()
	wait := float64(a.Backoff)
	for ; attempt > 1 && wait < float64(a.MaxAge); attempt-- {
		wait *= a.Factor
	}
	return time.Duration(min(wait, float64(a.MaxAge)))
}
