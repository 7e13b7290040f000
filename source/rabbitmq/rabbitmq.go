// Package rabbitmq takes messages of RabbitMQ's queues, by AMQP 0-9-1.
//
// RabbitMQ hands on, and does not keep: what is acknowledged is gone, and whoever takes from
// a queue shares its messages with all others who do. One at a time they are in the queue's
// order, as long as nobody else takes from it, and as long as one batch is under way at a
// time, as is the default.
//
// A message that comes again counts once if its publisher has given it a message-id.
// Without one RabbitMQ has no name for it: after a crash it may lead to a second event, with
// another ID. What is too large for an event is rejected, and goes to the queue's dead letter
// exchange, if it has one.
package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"lambent"
	"lambent/source/broker"
)

// Driver is for amqp:// and amqps://USER:PASSWORD@HOST:PORT/VIRTUALHOST.
type Driver struct{}

var _ broker.Driver = Driver{}

// Batch implements broker.Driver.
func (Driver) Batch() lambent.Batch { return lambent.Batch{Size: 100, Parallel: 1} }

// A client is a connection of a trigger's.
type client struct {
	*amqp091.Connection
	b     *lambent.Broker
	vhost string
	wire  *broker.Bounded
}

const heartbeat = 10 * time.Second

func connect(ctx context.Context, b *lambent.Broker) (*client, error) {
	e, err := broker.EndpointOf(b, true)
	if err != nil {
		return nil, err
	}
	c := &client{b: b, vhost: cmp.Or(e.Path, "/")}
	user, password := e.User, e.Password
	if user == "" {
		user, password = "guest", "guest"
	}
	conn, err := e.Dial(ctx)
	if err != nil {
		return nil, c.explain(err)
	}
	c.wire = broker.Bound(conn)
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unhook()
	c.Connection, err = amqp091.DialConfig("amqp://"+e.Address, amqp091.Config{
		SASL: []amqp091.Authentication{&amqp091.PlainAuth{Username: user, Password: password}}, Vhost: c.vhost, Heartbeat: heartbeat, ChannelMax: 8,
		Properties: amqp091.Table{"connection_name": "lambent"},
		Dial: func(string, string) (net.Conn, error) {
			return c.wire, conn.SetDeadline(time.Now().Add(heartbeat)) // which the client moves once it has been greeted
		},
	})
	if err != nil {
		return nil, c.explain(err)
	}
	return c, nil
}

// explain is an error of RabbitMQ for people.
func (c *client) explain(err error) error {
	if err == nil {
		return nil
	}
	e, _ := errors.AsType[*amqp091.Error](err)
	switch {
	case e == nil:
	case e.Code == amqp091.NotFound:
		return lambent.Errorf(lambent.Invalid, "rabbitmq", "%s has no queue %s in the virtual host %s", c.b.Masked(), c.b.Topic, c.vhost).
			WithHint("rabbitmqadmin --vhost=%s declare queue name=%s durable=true", c.vhost, c.b.Topic)
	case e.Code == amqp091.AccessRefused, e.Code == amqp091.NotAllowed, e.Code == amqp091.ResourceLocked, errors.Is(err, amqp091.ErrSASL):
		return broker.Fail(c.b, lambent.Invalid, "refuses it", errors.New(e.Reason))
	}
	return broker.Fail(c.b, lambent.Unavailable, "does not answer", err)
}

// within does something that knows no context: the connection ends with that.
func (c *client) within(ctx context.Context, do func() error) error {
	unhook := context.AfterFunc(ctx, func() { _ = c.wire.Close() })
	defer unhook()
	return c.explain(do())
}

// consume begins to take messages, of which so many may be out at a time.
func (c *client) consume(ctx context.Context, prefetch int, tag string) (deliveries <-chan amqp091.Delivery, err error) {
	err = c.within(ctx, func() error {
		ch, err := c.Channel()
		if err == nil {
			err = ch.Qos(prefetch, 0, false)
		}
		if err == nil {
			deliveries, err = ch.Consume(c.b.Topic, tag, false, false, false, false, nil)
		}
		return err
	})
	return deliveries, err
}

// Check implements broker.Driver. Whether messages may be taken only taking shows: the
// first is given back at once.
func (Driver) Check(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return err
	}
	defer c.hang()
	_, err = c.consume(ctx, 1, "")
	return err
}

// Prepare implements broker.Driver: a queue keeps what is sent, for whomever.
func (Driver) Prepare(context.Context, *lambent.Trigger) error { return nil }

// Forget implements broker.Driver.
func (Driver) Forget(context.Context, *lambent.Trigger) error { return nil }

const (
	// prefetch is how many messages may be out: RabbitMQ counts no bytes.
	prefetch = 32

	// gather is how long is waited for those that have come with the first.
	gather = time.Millisecond
)

// Consume implements broker.Driver.
func (Driver) Consume(ctx context.Context, t *lambent.Trigger) (broker.Stream, error) {
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return nil, err
	}
	s := &stream{client: c, closed: c.NotifyClose(make(chan *amqp091.Error, 1))}
	if s.deliveries, err = c.consume(ctx, prefetch, "lambent-"+t.ID); err != nil {
		c.hang()
		return nil, err
	}
	return s, nil
}

// A stream is one that is read.
type stream struct {
	*client
	deliveries <-chan amqp091.Delivery
	closed     chan *amqp091.Error
	taken      []amqp091.Delivery
	rejected   map[int]bool
}

// Receive implements broker.Stream.
func (s *stream) Receive(ctx context.Context) ([]broker.Message, error) {
	s.wire.Taken()
	s.taken, s.rejected = s.taken[:0], map[int]bool{}
	var enough <-chan time.Time
	for len(s.taken) < prefetch {
		select {
		case d, ok := <-s.deliveries:
			if !ok {
				return nil, s.ended()
			}
			if _, is := d.Headers["x-stream-offset"]; is {
				return nil, lambent.Errorf(lambent.Unsupported, "rabbitmq", "%s is a stream of RabbitMQ, which forgets where a trigger is: a queue of type classic or quorum does not", s.b.Topic)
			}
			s.taken = append(s.taken, d)
			if enough == nil {
				enough = time.After(gather)
			}
			continue
		case <-enough:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		break
	}
	all := make([]broker.Message, len(s.taken))
	for i := range s.taken {
		all[i] = s.message(&s.taken[i])
	}
	return all, nil
}

// ended is why there are no more messages.
func (s *stream) ended() error {
	select {
	case e := <-s.closed:
		if e != nil {
			return s.explain(e)
		}
	case <-time.After(time.Second): // the connection is there
	}
	return lambent.Errorf(lambent.Unavailable, "rabbitmq", "%s hands out no more of %s: the queue may have been deleted", s.b.Masked(), s.b.Topic)
}

func (s *stream) message(d *amqp091.Delivery) (m broker.Message) {
	m.Engine, m.Broker, m.Topic, m.Body, m.Time = "rabbitmq", s.b.Address(), s.b.Topic, broker.Text(d.Body), d.Timestamp
	m.AMQP = &lambent.AMQPProperties{
		VirtualHost: s.vhost, Exchange: d.Exchange, RoutingKey: d.RoutingKey, Redelivered: d.Redelivered, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding,
		DeliveryMode: d.DeliveryMode, Priority: d.Priority, CorrelationID: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageID: d.MessageId,
		Timestamp: d.Timestamp.UTC(), Type: d.Type, UserID: d.UserId, AppID: d.AppId,
	}
	delete(d.Headers, "x-delivery-count") // it is RabbitMQ's of its own deliveries, and another each time
	if len(d.Headers) > 0 {
		m.AMQP.Headers, _ = plain(d.Headers).(map[string]any)
	}
	if d.MessageId != "" {
		m.Origin = fmt.Sprintf("%s %s %s", s.vhost, s.b.Topic, d.MessageId)
	}
	return m
}

// plain is a value of a header as JSON has it.
func plain(v any) any {
	switch v := v.(type) {
	case amqp091.Table:
		out := map[string]any{}
		for name, value := range v {
			out[name] = plain(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	case string:
		return lambent.Bytes(v)
	case []byte:
		return lambent.Bytes(v)
	case time.Time:
		return v.UTC().Format(time.RFC3339)
	case amqp091.Decimal:
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(v.Scale)), nil)
		return new(big.Rat).SetFrac(big.NewInt(int64(v.Value)), scale).FloatString(int(v.Scale))
	case float32, float64:
		if s := fmt.Sprint(v); strings.ContainsAny(s, "NI") { // NaN and infinity, which JSON lacks
			return s
		}
	}
	return v
}

// Reject implements broker.Rejecter.
func (s *stream) Reject(ctx context.Context, i int) error {
	s.rejected[i] = true
	return s.within(ctx, func() error { return s.taken[i].Nack(false, false) })
}

// Done implements broker.Stream.
func (s *stream) Done(ctx context.Context) error {
	for i := len(s.taken) - 1; i >= 0; i-- {
		if !s.rejected[i] {
			return s.within(ctx, func() error { return s.taken[i].Ack(true) }) // and those before it
		}
	}
	return nil
}

// Waiting implements broker.Stream: what nobody has been handed.
func (s *stream) Waiting(ctx context.Context) (n int64, err error) {
	err = s.within(ctx, func() error {
		ch, err := s.Channel()
		if err != nil {
			return err
		}
		defer ch.Close()
		q, err := ch.QueueDeclarePassive(s.b.Topic, false, false, false, false, nil)
		n = int64(q.Messages)
		return err
	})
	return n, err
}

// Close implements broker.Stream.
func (s *stream) Close() { s.hang() }

// hang closes the connection without waiting long for the other side.
func (c *client) hang() { _ = c.CloseDeadline(time.Now().Add(time.Second)) }
