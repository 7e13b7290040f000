package queue

import (
	"encoding/json"
	"strconv"
	"time"

	"lambent"
	"lambent/store"
)

// An Attribute is one of a message's: a value with a type that is its users' to choose,
// beginning with String, Number or Binary.
type Attribute struct {
	Type   string `json:"t"`
	String string `json:"s,omitempty"`
	Binary []byte `json:"b,omitempty"`
}

// A Message is what is sent.
type Message struct {
	Body       []byte
	Attributes map[string]Attribute
	Trace      string        // X-Ray's header
	Delay      time.Duration // before it can be received; negative: as the queue says
	Group      string        // FIFO: 1 to 128 characters; else a name that means nothing
	DedupeID   string        // FIFO: "": that of the body, where the queue says so
	Sender     string        // the id of whose credential it was
	Hops       int           // functions that led to it
	Key        string        // no FIFO: what is sent again with it, for want of an answer, is the same message; "": it is another
}

// Size is what counts for the limit of a message: its body, and its attributes' names, types
// and values.
func (m *Message) Size() int {
	size := len(m.Body)
	for name, a := range m.Attributes {
		size += len(name) + len(a.Type) + len(a.String) + len(a.Binary)
	}
	return size
}

// Sent is a message that was taken, or was before.
type Sent struct {
	ID       string
	Sequence string // FIFO
}

// Received is a message with what is known of it.
type Received struct {
	Sent
	Message
	Receipt       string // by which whoever received it deletes it, or changes its time
	SentAt        time.Time
	FirstReceived time.Time
	Receives      int
	DeadLetterOf  string // the queue that it has come from
}

// A head is what is kept of a message beside its body.
type head struct {
	ID         string               `json:"id,omitempty"`
	Sequence   string               `json:"seq,omitempty"`
	SentMS     int64                `json:"at,omitempty"`
	Sender     string               `json:"by,omitempty"`
	Trace      string               `json:"trace,omitempty"`
	Group      string               `json:"group,omitempty"`
	DedupeID   string               `json:"dedupe,omitempty"`
	Attributes map[string]Attribute `json:"attrs,omitempty"`
	Hops       int                  `json:"hops,omitempty"`
	From       string               `json:"from,omitempty"`  // the queue that it was moved from
	Moves      int                  `json:"moves,omitempty"` // between queues: each is another item
	BodyBytes  int                  `json:"n,omitempty"`     // the rest of the payload is a head in full
}

// itemID is the id of a message's item. A message that was moved is another item, or one
// that has come back would be taken for one that was here before.
func (h *head) itemID() string {
	if h.Moves == 0 {
		return h.ID
	}
	return h.ID + "." + strconv.Itoa(h.Moves)
}

// encode makes a message an item, without its lane. Kind: TooLarge.
func encode(h *head, body []byte) (store.Item, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return store.Item{}, invalid("InvalidMessageContents", "the message has no form in which it can be kept: %w", err)
	}
	it := store.Item{ID: h.itemID(), Meta: b, Payload: body}
	if len(b) > store.MaxMetaBytes { // many attributes
		it.Payload = append(append(make([]byte, 0, len(body)+len(b)), body...), b...)
		if it.Meta, err = json.Marshal(head{BodyBytes: len(body)}); err != nil {
			return it, err
		}
		if len(body) == 0 {
			it.Meta = []byte(`{"n":-1}`)
		}
	}
	if len(it.Payload) > store.MaxPayloadBytes {
		return it, invalid(ReasonValue, "the message is %d bytes with its attributes, over the limit of %d", len(it.Payload), store.MaxPayloadBytes)
	}
	return it, nil
}

// decode is the inverse of encode.
func decode(it *store.Item) (h head, body []byte, err error) {
	if err = json.Unmarshal(it.Meta, &h); err != nil || h.BodyBytes == 0 {
		return h, it.Payload, err
	}
	n := max(h.BodyBytes, 0)
	if n > len(it.Payload) {
		return h, nil, lambent.Errorf(lambent.Internal, "queue", "message %s is damaged", it.ID)
	}
	h = head{}
	return h, it.Payload[:n], json.Unmarshal(it.Payload[n:], &h)
}
