package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"lambent"
)

// A Message is what a broker has handed over.
type Message struct {
	lambent.BrokerMessage

	// Origin is the broker's name for the message, which it has whenever it comes and no
	// other one has, such as its place in a log; empty: there is none.
	Origin string

	// Order is of those that stay in order; empty: see [Driver.Batch].
	Order string

	// Time is when it was sent; zero: the broker does not say.
	Time time.Time
}

// maxName is how long what names messages may be in an event's attributes.
const maxName = 256

// event is the message as an event of a trigger. Its ID is made of its content, too: a
// broker that uses a name for something else, as one that has lost its data does, has not
// sent the same again.
func (m *Message) event(t *lambent.Trigger, now time.Time) lambent.Event {
	if !lambent.HasForm(m.Time) { // whoever sent it has said so
		m.Time = time.Time{}
	}
	if m.AMQP != nil && !lambent.HasForm(m.AMQP.Timestamp) {
		m.AMQP.Timestamp = time.Time{}
	}
	e := lambent.Event{
		ID: lambent.NewID(), Source: "/triggers/" + t.ID, Type: lambent.EventBrokerMessage, Subject: short(m.Topic), Time: m.Time.UTC(),
		DataContentType: "application/json", Data: document(&m.BrokerMessage),
	}
	if m.Order != "" {
		e.Extensions = map[string]string{lambent.PartitionKey: short(m.Order)}
	}
	if m.Origin != "" {
		content := e.Data
		if m.AMQP != nil && m.AMQP.Redelivered { // it was not the first time
			first, amqp := m.BrokerMessage, *m.AMQP
			amqp.Redelivered, first.AMQP = false, &amqp
			content = document(&first)
		}
		sum := sha256.Sum256(content)
		e.ID = lambent.IDOf(t.ID + " " + m.Origin + " " + m.Time.UTC().Format(time.RFC3339Nano) + " " + hex.EncodeToString(sum[:]))
	}
	if m.Time.IsZero() {
		e.Time = now.UTC()
	}
	return e
}

// without is the data of an event whose message is too large: where that is.
func (m *Message) without(reason string) []byte {
	return document(&lambent.BrokerMessage{
		Engine: m.Engine, Broker: m.Broker, Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Stream: m.Stream, Sequence: m.Sequence, Entry: m.Entry, Omitted: reason,
	})
}

// short is a name as it is, or if it is long, or no text, the sum of it.
func short(name string) string {
	if len(name) <= maxName && utf8.ValidString(name) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func document(m *lambent.BrokerMessage) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		panic("broker: a message always has a JSON form: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Text is a header's value or a body as messages have it.
func Text[S string | []byte](s S) *lambent.Bytes { b := lambent.Bytes(s); return &b }

// line is an error as one line, without what is secret in the URL.
func line(b *lambent.Broker, err error) string {
	s := strings.Join(strings.Fields(err.Error()), " ")
	s = strings.ReplaceAll(s, b.URL, b.Masked())
	if u, err := url.Parse(b.URL); err == nil && u.User != nil {
		secret, ok := u.User.Password()
		if !ok { // it may be a token
			secret = u.User.Username()
		}
		if len(secret) > 3 {
			s = strings.ReplaceAll(s, secret, "xxxxx")
		}
	}
	return s
}
