package lambent

import (
	"regexp"
	"strings"
	"time"
)

// EventQueueMessage is a message of a queue that a function takes. Its source is
// /queues/QUEUE, its ID the message's, and the extension partitionkey the message's group,
// where it has one. Its data is that of a [QueueMessage] in JSON.
const EventQueueMessage = "dev.lambent.queue.message"

// A Queue is one of the project's whose messages a function takes.
type Queue struct {
	Name string `json:"name"`
}

// FIFO is what the names of queues end in whose messages are in order.
const FIFO = ".fifo"

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Validate checks the name, by SQS's rule.
func (q *Queue) Validate() error {
	if len(q.Name) > 80 || !queueName.MatchString(strings.TrimSuffix(q.Name, FIFO)) {
		return Errorf(Invalid, "queue", "%.100q is not the name of a queue: 1 to 80 letters, digits, '-' and '_', and %s behind them for one in order", q.Name, FIFO)
	}
	return nil
}

// A QueueMessage is a message that a function has for a while: it is deleted when the
// function has done well.
type QueueMessage struct {
	Queue         string                      `json:"queue"`
	ID            string                      `json:"id"`
	Body          []byte                      `json:"body"`
	Attributes    map[string]MessageAttribute `json:"attributes,omitempty"`
	Receipt       string                      `json:"receipt"`
	Sent          time.Time                   `json:"sent"`
	FirstReceived time.Time                   `json:"first_received"`
	Receives      int                         `json:"receives"`
	Sender        string                      `json:"sender,omitempty"`
	Group         string                      `json:"group,omitempty"`
	DedupeID      string                      `json:"dedupe_id,omitempty"`
	Sequence      string                      `json:"sequence,omitempty"`
	Trace         string                      `json:"trace,omitempty"` // X-Ray's header
	DeadLetterOf  string                      `json:"dead_letter_of,omitempty"`
}

// A MessageAttribute is a value with a type of its sender's, that begins with String,
// Number or Binary.
type MessageAttribute struct {
	Type   string `json:"type"`
	String string `json:"string,omitempty"`
	Binary []byte `json:"binary,omitempty"`
}
