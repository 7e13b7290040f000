// Package nats takes messages that JetStream keeps, as NATS's servers have it: those of a
// subject, which may have wildcards, of the stream that it belongs to. What no stream keeps
// is nothing that could come again, and is not taken.
//
// A group is a durable pull consumer that wants an acknowledgement of each message. A message
// is known by its stream and its sequence there, so that one which comes again counts once.
// Those of one subject are in order, as long as nobody else takes of the same consumer: what
// was handed to the trigger when it ended, and not acknowledged, is waited for before
// anything else is taken.
package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
	"lambent/source/broker"
)

// Driver is for nats://, with TLS where the server wants it, and tls://, which nothing is said
// to without that. A user without a password is a token.
type Driver struct{}

var _ broker.Driver = Driver{}

// Batch implements broker.Driver.
func (Driver) Batch() lambent.Batch { return lambent.Batch{Size: 100, Parallel: 8} }

// A client is a connection of a trigger's.
type client struct {
	*nats.Conn
	b      *lambent.Broker
	js     jetstream.JetStream
	wire   *broker.Guarded
	closed chan struct{}         // when it is
	denied atomic.Pointer[error] // what the server has said that we may not do
}

func connect(ctx context.Context, b *lambent.Broker) (*client, error) {
	e, err := broker.EndpointOf(b, false)
	if err != nil {
		return nil, err
	}
	c := &client{b: b, closed: make(chan struct{})}
	plain := e
	plain.TLS = nil // it begins once the server has said who it is
	conn, err := plain.Dial(ctx)
	if err != nil {
		return nil, c.explain(err)
	}
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unhook()
	said, err := greeted(conn, e)
	if err != nil {
		conn.Close()
		return nil, c.explain(err)
	}
	c.wire = broker.Guard(said, broker.Lines(announced))
	options := []nats.Option{
		nats.SetCustomDialer(dialed{c.wire}), nats.NoReconnect(), nats.Name("lambent"), nats.Timeout(answerTimeout),
		nats.ClosedHandler(func(*nats.Conn) { close(c.closed) }),
		nats.ErrorHandler(func(conn *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) { // what was asked for has no other answer
				c.denied.Store(&err)
				conn.Close()
			}
		}),
	}
	switch {
	case e.Password != "":
		options = append(options, nats.UserInfo(e.User, e.Password))
	case e.User != "":
		options = append(options, nats.Token(e.User))
	}
	if c.Conn, err = nats.Connect("nats://"+e.Address, options...); err != nil {
		return nil, c.explain(err)
	}
	if c.js, err = jetstream.New(c.Conn); err != nil {
		c.Close()
		return nil, c.explain(err)
	}
	return c, nil
}

const answerTimeout = 5 * time.Second

// A dialed is a connection that the client has for its own, with TLS where the server wants
// it, so that what comes can be read along.
type dialed struct{ net.Conn }

// SkipTLSHandshake has the client leave that to us.
func (dialed) SkipTLSHandshake() bool { return true }

// Dial implements nats.CustomDialer.
func (d dialed) Dial(string, string) (net.Conn, error) { return d.Conn, nil }

// maxPayload is how large a message may be, which is the most that NATS's server can be set to.
const maxPayload = 64 << 20

// announced is what follows a line: MSG and HMSG end with how many bytes.
func announced(line []byte) (int, error) {
	words := strings.Fields(string(line))
	if len(words) == 0 || !strings.EqualFold(words[0], "MSG") && !strings.EqualFold(words[0], "HMSG") {
		return 0, nil
	}
	n, _ := strconv.Atoi(words[len(words)-1])
	if n > maxPayload {
		return 0, broker.TooMuch("a message of bytes", n, maxPayload)
	}
	return max(n, 0) + 2, nil
}

// explain is an error of NATS for people.
func (c *client) explain(err error) error {
	if err == nil {
		return nil
	}
	if denied := c.denied.Load(); denied != nil {
		return broker.Fail(c.b, lambent.Invalid, "does not allow it", *denied)
	}
	is := func(errs ...error) bool {
		return slices.ContainsFunc(errs, func(e error) bool { return errors.Is(err, e) })
	}
	switch {
	case is(nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired):
		return broker.Fail(c.b, lambent.Invalid, "refuses it", err)
	case is(jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount):
		return lambent.Errorf(lambent.Invalid, "nats", "%s has no JetStream, which keeps messages until they are taken", c.b.Masked()).WithHint("nats-server --jetstream")
	case is(jetstream.ErrStreamNotFound):
		return lambent.Errorf(lambent.Invalid, "nats", "no stream of %s keeps the subject %s", c.b.Masked(), c.b.Topic).WithHint("nats stream add NAME --subjects '%s'", c.b.Topic)
	case is(jetstream.ErrConsumerNotFound, jetstream.ErrConsumerDeleted, jetstream.ErrConsumerDoesNotExist):
		return lambent.Errorf(lambent.Stale, "nats", "the consumer of the trigger is gone from %s: what was sent since then is not known. To begin anew, disable the trigger and enable it again", c.b.Masked())
	}
	return broker.Fail(c.b, lambent.Unavailable, "does not answer", err)
}

// streamOf is the name of the stream that keeps the subject.
func (c *client) streamOf(ctx context.Context) (string, error) {
	if strings.ContainsAny(c.b.Topic, " \t") || slices.Contains(strings.Split(c.b.Topic, "."), "") {
		return "", lambent.Errorf(lambent.Invalid, "nats", "%.100q is no subject of NATS", c.b.Topic)
	}
	name, err := c.js.StreamNameBySubject(ctx, c.b.Topic)
	return name, c.explain(err)
}

// Check implements broker.Driver.
func (Driver) Check(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.streamOf(ctx)
	return err
}

// ackWait is after how long NATS hands a message out again: how long a trigger waits for
// that after a crash of ours. What is being taken meanwhile is not affected.
const ackWait = 2 * time.Second

// Prepare implements broker.Driver.
func (Driver) Prepare(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return err
	}
	defer c.Close()
	stream, err := c.streamOf(ctx)
	if err != nil {
		return err
	}
	group, own := broker.GroupOf(t)
	if !own {
		there, err := c.js.Consumer(ctx, stream, group)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound):
		case errors.Is(err, jetstream.ErrNotPullConsumer):
			return lambent.Errorf(lambent.Invalid, "nats", "the consumer %s of the stream %s is one that NATS pushes to: a trigger needs one to pull from", group, stream)
		case err != nil:
			return c.explain(err)
		default:
			cfg := there.CachedInfo().Config
			if cfg.AckPolicy != jetstream.AckExplicitPolicy || cfg.FilterSubject != t.Broker.Topic || cfg.Durable == "" {
				return lambent.Errorf(lambent.Invalid, "nats", "the consumer %s of the stream %s is none that a trigger can take from: it has to be durable, filter %s alone, and want each message acknowledged", group, stream, t.Broker.Topic)
			}
			return nil
		}
	}
	cfg := jetstream.ConsumerConfig{
		Durable: group, FilterSubject: t.Broker.Topic, AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, DeliverPolicy: jetstream.DeliverNewPolicy,
		Description: "a trigger of lambent's function " + t.Target.Function,
	}
	if t.Broker.From == lambent.FromEarliest {
		cfg.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	_, err = c.js.CreateConsumer(ctx, stream, cfg)
	return c.explain(err)
}

// Forget implements broker.Driver.
func (Driver) Forget(ctx context.Context, t *lambent.Trigger) error {
	group, own := broker.GroupOf(t)
	if !own {
		return nil
	}
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return err
	}
	defer c.Close()
	stream, err := c.js.StreamNameBySubject(ctx, t.Broker.Topic)
	if err == nil {
		err = c.js.DeleteConsumer(ctx, stream, group)
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil
	}
	return c.explain(err)
}

// Consume implements broker.Driver.
func (Driver) Consume(ctx context.Context, t *lambent.Trigger) (broker.Stream, error) {
	c, err := connect(ctx, t.Broker)
	if err != nil {
		return nil, err
	}
	s := &stream{client: c}
	s.group, _ = broker.GroupOf(t)
	if s.name, err = c.streamOf(ctx); err == nil {
		s.consumer, err = c.js.Consumer(ctx, s.name, s.group)
		err = c.explain(err)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return s, nil
}

// A stream is one that is read.
type stream struct {
	*client
	name, group string
	consumer    jetstream.Consumer
	settled     bool // what was handed out before comes, or there is nothing
	pace        broker.Pace
	taken       []jetstream.Msg
}

// maxSettle bounds how long is waited for what was handed out before: a consumer that others
// have made may have NATS wait for long.
const maxSettle = 30 * time.Second

// settle waits until NATS hands out again what it had handed to us before.
func (s *stream) settle(ctx context.Context) error {
	info, err := s.consumer.Info(ctx)
	if err != nil || info.NumAckPending == 0 {
		return err
	}
	wait := info.Config.AckWait + 100*time.Millisecond
	if last := info.Delivered.Last; last != nil {
		wait -= info.TimeStamp.Sub(*last)
	}
	return s.rest(ctx, min(wait, maxSettle))
}

// rest waits, but not longer than the connection lives.
func (s *stream) rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.closed:
		return nats.ErrConnectionClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Receive implements broker.Stream.
func (s *stream) Receive(ctx context.Context) ([]broker.Message, error) {
	if !s.settled {
		if err := s.settle(ctx); err != nil {
			return nil, s.explain(err)
		}
		s.settled = true
	}
	for {
		s.wire.Taken()
		if err := s.fetch(ctx, s.consumer.FetchNoWait); err != nil {
			return nil, err
		}
		if len(s.taken) == 0 { // the first that comes, and the next time what is behind it
			err := s.fetch(ctx, func(int) (jetstream.MessageBatch, error) {
				return s.consumer.Fetch(1, jetstream.FetchMaxWait(10*time.Second), jetstream.FetchHeartbeat(2*time.Second))
			})
			if err != nil {
				return nil, err
			}
		}
		if len(s.taken) > 0 {
			return s.messages()
		}
	}
}

// fetch takes what one request brings.
func (s *stream) fetch(ctx context.Context, request func(int) (jetstream.MessageBatch, error)) error {
	s.taken = s.taken[:0]
	batch, err := request(s.pace.Count())
	if err != nil {
		return s.explain(err)
	}
	for {
		select {
		case m, ok := <-batch.Messages():
			if ok {
				s.taken = append(s.taken, m)
				continue
			}
			if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, jetstream.ErrNoMessages) && len(s.taken) == 0 {
				return s.explain(err)
			}
			return nil
		case <-s.closed:
			return s.explain(nats.ErrConnectionClosed)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *stream) messages() ([]broker.Message, error) {
	all := make([]broker.Message, len(s.taken))
	bytes := 0
	for i, t := range s.taken {
		meta, err := t.Metadata()
		if err != nil {
			return nil, s.explain(err)
		}
		m := &all[i]
		m.Origin, m.Order, m.Time = fmt.Sprintf("%s %d", meta.Stream, meta.Sequence.Stream), t.Subject(), meta.Timestamp
		m.Engine, m.Broker, m.Topic, m.Stream, m.Sequence, m.Body = "nats", s.b.Address(), t.Subject(), meta.Stream, meta.Sequence.Stream, broker.Text(t.Data())
		for _, name := range slices.Sorted(maps.Keys(t.Headers())) {
			for _, v := range t.Headers()[name] {
				m.Headers = append(m.Headers, lambent.Header{Name: name, Value: lambent.Bytes(v)})
				bytes += len(name) + len(v)
			}
		}
		bytes += len(t.Data())
	}
	s.pace.Took(len(all), bytes)
	return all, nil
}

// Done implements broker.Stream. The last one is answered, which those before it are behind.
func (s *stream) Done(ctx context.Context) error {
	for i, m := range s.taken {
		var err error
		if i < len(s.taken)-1 {
			err = m.Ack()
		} else {
			err = m.DoubleAck(ctx)
		}
		if err != nil {
			return s.explain(err)
		}
	}
	s.taken = s.taken[:0]
	return nil
}

// Waiting implements broker.Stream.
func (s *stream) Waiting(ctx context.Context) (int64, error) {
	c, err := s.js.Consumer(ctx, s.name, s.group)
	if err != nil {
		return 0, s.explain(err)
	}
	info := c.CachedInfo()
	return int64(info.NumPending) + int64(info.NumAckPending), nil
}

// Close implements broker.Stream.
func (s *stream) Close() {
	for _, m := range s.taken {
		_ = m.Nak()
	}
	_ = s.FlushTimeout(time.Second)
	s.Conn.Close()
}
