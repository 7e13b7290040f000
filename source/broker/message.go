package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
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

	// Refused is why the message is not here, but only where it is; empty: it is.
	Refused string
}

// maxMessage is how many bytes a message may have that an event is made of. Events have a
// limit far below it; what is over that is not written as JSON to find out.
const maxMessage = 8 << 20

// measure refuses a message that no event could have.
func (m *Message) measure() {
	n := 0
	for _, b := range []*lambent.Bytes{m.Key, m.Body, m.Correlation} {
		if b != nil {
			n += len(*b)
		}
	}
	for _, h := range m.Headers {
		n += len(h.Name) + len(h.Value) + len(`{"name":"","value":""}`)
	}
	for name, v := range m.Fields {
		n += len(name) + len(v)
	}
	if n > maxMessage {
		m.Refused = fmt.Sprintf("the message has %d bytes, over the limit of events", n)
	}
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
	if m.measure(); m.Refused != "" {
		m.BrokerMessage = m.where(m.Refused)
	}
	e := lambent.Event{
		ID: lambent.NewID(), Source: "/triggers/" + t.ID, Type: lambent.EventBrokerMessage, Subject: short(m.Topic), Time: m.Time.UTC(),
		DataContentType: "application/json", Data: document(&m.BrokerMessage),
	}
	if m.Order != "" {
		e.Extensions = map[string]string{lambent.PartitionKey: short(m.Order)}
	}
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, lambent.ExtensionTrace) {
			e.SetTrace(string(h.Value))
		}
	}
	if m.AMQP != nil {
		if trace, ok := m.AMQP.Headers[lambent.ExtensionTrace].(lambent.Bytes); ok {
			e.SetTrace(string(trace))
		}
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

// where is a message without what may be large: where that is.
func (m *Message) where(omitted string) lambent.BrokerMessage {
	return lambent.BrokerMessage{
		Engine: m.Engine, Broker: m.Broker, Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Stream: m.Stream, Sequence: m.Sequence, Entry: m.Entry, Omitted: omitted,
	}
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
