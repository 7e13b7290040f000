package lambent

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// A Broker is one of somebody's outside whose messages a function takes.
type Broker struct {
	// URL is SCHEME://USER:PASSWORD@HOST:PORT, where the scheme says what answers there:
	// nats or tls, kafka or kafkas, amqp or amqps, mqtt or mqtts, redis or rediss, each second
	// one with TLS. [Broker.Masked] is what people may see of it.
	URL string `json:"url"`

	// Topic is what is taken from: Kafka's topic, a subject of NATS that a stream keeps, a
	// queue of RabbitMQ, a topic filter of MQTT, a stream of Redis.
	Topic string `json:"topic"`

	// Group is whom messages are shared with: each goes to one of those that have the same.
	// It is a consumer group, NATS's durable consumer, MQTT's shared subscription; RabbitMQ
	// has none. Empty: one of the trigger's own, which gets everything.
	Group string `json:"group,omitempty"`

	// From is with what a group begins that is new: [FromNew], [FromEarliest]; empty: FromNew.
	From string `json:"from,omitempty"`

	Certificates // which go with TLS
}

// Where a group begins that is new.
const (
	FromNew      = "new"      // with what is sent from then on
	FromEarliest = "earliest" // with all that the broker has kept; of MQTT, what is retained
)

// brokerEngines is what answers at URLs of a scheme, and where if they do not say.
var brokerEngines = map[string]struct {
	engine string
	port   string
	tls    bool
}{
	"nats": {"nats", "4222", false}, "tls": {"nats", "4222", true}, "kafka": {"kafka", "9092", false}, "kafkas": {"kafka", "9093", true},
	"amqp": {"rabbitmq", "5672", false}, "amqps": {"rabbitmq", "5671", true}, "mqtt": {"mqtt", "1883", false}, "mqtts": {"mqtt", "8883", true},
	"redis": {"redis", "6379", false}, "rediss": {"redis", "6379", true},
}

const brokerSchemes = "nats://, kafka://, amqp://, mqtt:// and redis://, and with TLS tls:// (NATS), kafkas://, amqps://, mqtts:// and rediss://"

func (b *Broker) scheme() string {
	scheme, _, _ := strings.Cut(b.URL, ":")
	return strings.ToLower(scheme)
}

// Engine is "nats", "kafka", "rabbitmq", "mqtt" or "redis", and empty for a URL of none.
func (b *Broker) Engine() string { return brokerEngines[b.scheme()].engine }

// TLS reports whether the URL asks for it.
func (b *Broker) TLS() bool { return brokerEngines[b.scheme()].tls }

// Address is HOST:PORT of a URL that is valid.
func (b *Broker) Address() string {
	u, err := url.Parse(b.URL)
	if err != nil {
		return ""
	}
	if u.Port() == "" {
		return u.Host + ":" + brokerEngines[b.scheme()].port
	}
	return u.Host
}

// Masked is the URL without its password.
func (b *Broker) Masked() string { return maskedURL(b.URL, b.scheme()) }

// maskedURL is a URL without what is secret in it; of one that cannot be read, its scheme.
func maskedURL(s, scheme string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return scheme + "://"
	}
	u.RawQuery, u.Fragment = "", "" // nothing that is secret belongs there, but who knows
	if _, secret := u.User.Password(); u.User != nil && !secret && brokerEngines[scheme].engine == "nats" {
		u.User = url.User("xxxxx") // a token
	}
	return u.Redacted()
}

// Validate checks what can be known without asking the broker. Kinds: Invalid,
// Unsupported.
func (b *Broker) Validate() error {
	const op = "broker"
	refuse := func(format string, args ...any) error { return Errorf(Invalid, op, format, args...) }
	u, err := url.Parse(b.URL)
	switch {
	case err != nil || u.Scheme == "" || u.Opaque != "": // the error has all of it, with the password
		return refuse("the broker's URL cannot be read: it is like kafka://USER:PASSWORD@HOST:9092, where %%40 stands for an @ in the password; there are %s", brokerSchemes)
	case b.Engine() == "":
		return Errorf(Unsupported, op, "there is no source of messages for %.32q: there are %s", u.Scheme, brokerSchemes)
	case u.Hostname() == "":
		return refuse("the broker's URL lacks its host: it is like %s://USER:PASSWORD@HOST:%s", u.Scheme, brokerEngines[b.scheme()].port)
	case b.Topic == "":
		return refuse("a broker needs a topic whose messages are taken")
	case len(b.Topic) > 1024 || !legible(b.Topic):
		return refuse("%.100q is no topic: up to 1024 bytes of text", b.Topic)
	case len(b.Group) > 200 || !legible(b.Group) || strings.ContainsAny(b.Group, " ./+#*>$"):
		return refuse("%.100q is not the name of a group: up to 200 bytes, without spaces and . / + # * > $", b.Group)
	case b.From != "" && b.From != FromNew && b.From != FromEarliest:
		return refuse("%.32q is no beginning: there are %s and %s", b.From, FromNew, FromEarliest)
	case b.Engine() == "rabbitmq" && b.Group != "":
		return refuse("RabbitMQ has no groups: those who take from one queue share its messages. Whoever is to get all has a queue of their own, bound to the same exchange")
	case b.Engine() == "rabbitmq" && b.From != "":
		return refuse("a queue of RabbitMQ is taken from where it begins: there is no other beginning to choose")
	}
	if !b.TLS() && b.Certificates != (Certificates{}) {
		return refuse("certificates go with TLS, which %s:// has not: there are tls:// (NATS), kafkas://, amqps://, mqtts:// and rediss://", b.scheme())
	}
	return b.Certificates.validate(op)
}

// legible reports whether s is text without control characters.
func legible(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// EventBrokerMessage is a message of a broker. Its source is /triggers/ID, its subject the
// message's topic, and its partitionkey what the broker keeps in order: Kafka's key, or
// the partition if there is none; NATS's subject; MQTT's topic. Its data is that of a
// [BrokerMessage] in JSON.
const EventBrokerMessage = "dev.lambent.broker.message"

// A BrokerMessage is a message as a broker has handed it over.
type BrokerMessage struct {
	Engine string `json:"engine"` // of [Broker.Engine]
	Broker string `json:"broker"` // HOST:PORT, as the trigger names it
	Topic  string `json:"topic"`  // which it was sent to; of RabbitMQ, the queue

	Key     *Bytes           `json:"key,omitempty"`     // Kafka's
	Body    *Bytes           `json:"body,omitempty"`    // nil: there is none, as in what Kafka calls a tombstone
	Headers []Header         `json:"headers,omitempty"` // Kafka's, NATS's, and MQTT's user properties, in their order
	Fields  map[string]Bytes `json:"fields,omitempty"`  // Redis's, in place of a body

	Partition     *int32 `json:"partition,omitempty"` // Kafka's
	Offset        *int64 `json:"offset,omitempty"`
	TimestampType string `json:"timestamp_type,omitempty"` // CREATE_TIME or LOG_APPEND_TIME

	Stream   string `json:"stream,omitempty"`   // NATS's
	Sequence uint64 `json:"sequence,omitempty"` // in it

	Entry string `json:"entry,omitempty"` // the id of Redis's

	QoS           int    `json:"qos,omitempty"` // MQTT's
	Retained      bool   `json:"retained,omitempty"`
	ContentType   string `json:"content_type,omitempty"`
	ResponseTopic string `json:"response_topic,omitempty"`
	Correlation   *Bytes `json:"correlation,omitempty"`

	AMQP *AMQPProperties `json:"amqp,omitempty"` // RabbitMQ's

	Omitted string `json:"omitted,omitempty"` // why the body is not here, nor what else may be large
}

// AMQPProperties are what AMQP 0-9-1 says of a message beside its body. Headers have
// strings, numbers, true and false, null, lists and tables; times are in RFC 3339, and
// bytes that are no text as [Bytes] has them.
type AMQPProperties struct {
	VirtualHost string `json:"virtual_host"`
	Exchange    string `json:"exchange"`
	RoutingKey  string `json:"routing_key"`
	Redelivered bool   `json:"redelivered"`

	ContentType     string         `json:"content_type,omitempty"`
	ContentEncoding string         `json:"content_encoding,omitempty"`
	Headers         map[string]any `json:"headers,omitempty"`
	DeliveryMode    uint8          `json:"delivery_mode,omitempty"`
	Priority        uint8          `json:"priority,omitempty"`
	CorrelationID   string         `json:"correlation_id,omitempty"`
	ReplyTo         string         `json:"reply_to,omitempty"`
	Expiration      string         `json:"expiration,omitempty"`
	MessageID       string         `json:"message_id,omitempty"`
	Timestamp       time.Time      `json:"timestamp,omitzero"`
	Type            string         `json:"type,omitempty"`
	UserID          string         `json:"user_id,omitempty"`
	AppID           string         `json:"app_id,omitempty"`
}

// A Header is a name with a value; a message may have several of one name.
type Header struct {
	Name  string `json:"name"`
	Value Bytes  `json:"value"`
}

// Bytes are a string in JSON if they are text, which is what most are, and otherwise
// {"base64": "..."}.
type Bytes []byte

type base64Bytes struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) {
	if !utf8.Valid(b) {
		return json.Marshal(base64Bytes{b})
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // or text might become six times as large
	err := enc.Encode(string(b))
	return out.Bytes(), err
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bytes) UnmarshalJSON(doc []byte) error {
	if len(doc) > 0 && doc[0] == '{' {
		var v base64Bytes
		err := json.Unmarshal(doc, &v)
		*b = v.Base64
		return err
	}
	var s string
	err := json.Unmarshal(doc, &s)
	*b = Bytes(s)
	return err
}
