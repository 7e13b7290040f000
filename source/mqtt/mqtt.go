// Package mqtt takes messages of MQTT 5's brokers: those of a topic filter, at quality of
// service 1, in a session that the broker keeps while nobody is connected.
//
// A message that was not acknowledged comes again in the same order. MQTT has no name for it
// that would last: after a crash it may lead to a second event, with another ID. Those of one
// topic are in order. What was published at quality 0 is nobody's to keep, and how much a
// broker keeps for a session that is away, and whether that outlives a crash of its own, is
// the broker's: mosquitto has max_queued_messages, and autosave_interval. That a session is
// gone is said by the trigger's status.
//
// A group is a shared subscription. To begin with what is earliest is to have what is
// retained first.
package mqtt

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"lambent"
	"lambent/source/broker"
)

// Driver is for mqtt:// and mqtts://.
type Driver struct{}

var _ broker.Driver = Driver{}

// Batch implements broker.Driver.
func (Driver) Batch() lambent.Batch { return lambent.Batch{Size: 100, Parallel: 8} }

const (
	// maxOut is how many messages the broker may hand out before one is acknowledged, and
	// maxPacket how large one may be: a larger one the broker drops.
	maxOut    = 64
	maxPacket = 4 << 20

	answerTimeout = 10 * time.Second
	keepAlive     = 20 * time.Second

	// ackEvery is how long the client gathers acknowledgements, which leave in order.
	ackEvery = 10 * time.Millisecond
)

// A client is a connection of a trigger's.
type client struct {
	*paho.Client
	b        *lambent.Broker
	wire     *broker.Guarded
	incoming chan *paho.Publish
	failed   chan error    // capacity 1: why the connection has ended
	gone     chan struct{} // closed by close: nobody takes what comes in
	present  bool          // the broker had the session
}

// connect connects; without an id there is no session. A clean session is a new one, which
// the broker keeps for ever if it is to keep it.
func connect(ctx context.Context, b *lambent.Broker, id string, clean, keep bool) (*client, error) {
	e, err := broker.EndpointOf(b, false)
	if err != nil {
		return nil, err
	}
	if err := checkFilter(b.Topic); err != nil {
		return nil, err
	}
	conn, err := e.Dial(ctx)
	if err != nil {
		return nil, broker.Fail(b, lambent.Unavailable, "does not answer", err)
	}
	up := make(chan struct{})
	defer close(up)
	c := &client{b: b, wire: broker.Guard(conn, heldBack(up)), incoming: make(chan *paho.Publish, maxOut), failed: make(chan error, 1), gone: make(chan struct{})}
	fail := func(err error) {
		select {
		case c.failed <- err:
		default:
		}
	}
	c.Client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(c.wire), PacketTimeout: answerTimeout, EnableManualAcknowledgment: true, SendAcksInterval: ackEvery,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			select {
			case c.incoming <- p.Packet:
			case <-c.gone: // the client is done once this has returned
			}
			return true, nil
		}},
		OnClientError: fail,
		OnServerDisconnect: func(d *paho.Disconnect) {
			fail(fmt.Errorf("the broker has ended the connection, with the reason 0x%02x", d.ReasonCode))
		},
	})
	var expiry uint32
	if keep {
		expiry = math.MaxUint32
	}
	ack, err := c.Connect(ctx, &paho.Connect{
		ClientID: id, CleanStart: clean, KeepAlive: uint16(keepAlive / time.Second), Username: e.User, UsernameFlag: e.User != "", Password: []byte(e.Password), PasswordFlag: e.Password != "",
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry, ReceiveMaximum: new(uint16(maxOut)), MaximumPacketSize: new(uint32(maxPacket)), RequestProblemInfo: true},
	})
	if err != nil {
		if ack != nil {
			err = c.refused(ack.ReasonCode, "refuses it", err)
		}
		select {
		case why := <-c.failed: // which is what the client has ended for
			err = why
		default:
		}
		return nil, broker.Fail(b, lambent.Unavailable, "does not answer", err)
	}
	c.present = ack.SessionPresent
	return c, nil
}

// What a broker sends to who subscribes at quality 1, and nothing else. The client would
// answer the rest, too, even when it has no connection any more, and panic.
var expected = []byte{packets.CONNACK, packets.PUBLISH, packets.SUBACK, packets.PINGRESP, packets.DISCONNECT}

// heldBack has what comes behind CONNACK wait until the client is up: it may end by what it
// reads, and is not ready to while Connect has not returned.
func heldBack(up <-chan struct{}) broker.Head {
	acknowledged := false
	return func(head []byte) (whole bool, follow int, err error) {
		if acknowledged && len(head) == 1 {
			<-up
		}
		whole, follow, err = fixedHeader(head)
		acknowledged = acknowledged || whole && head[0]>>4 == packets.CONNACK
		return whole, follow, err
	}
}

// fixedHeader reads what a packet begins with: a byte, and a length of one to four, the
// lowest seven bits first.
func fixedHeader(head []byte) (whole bool, follow int, err error) {
	kind, quality := head[0]>>4, head[0]>>1&3
	if !slices.Contains(expected, kind) || kind == packets.PUBLISH && quality > 1 {
		return false, 0, lambent.Errorf(lambent.Unavailable, "mqtt", "the broker sends a packet that nobody has asked for: 0x%02x", head[0])
	}
	for i, b := range head[1:] {
		follow |= int(b&0x7f) << (7 * i)
	}
	if len(head) == 2 && kind == packets.CONNACK && follow == 2 { // which MQTT 5's is longer than
		return false, 0, lambent.Errorf(lambent.Unsupported, "mqtt", "the broker speaks MQTT 3.1.1, and a trigger needs MQTT 5: mosquitto has it since 1.6, EMQX and HiveMQ since 4, VerneMQ since 1.7, and others may have to be told to")
	}
	if len(head) > 5 || follow > maxPacket {
		return false, 0, broker.TooMuch("a packet of bytes", follow, maxPacket)
	}
	return len(head) > 1 && head[len(head)-1]&0x80 == 0, follow, nil
}

// checkFilter refuses what is no topic filter.
func checkFilter(filter string) error {
	levels := strings.Split(filter, "/")
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && len(l) > 1 || l == "#" && i < len(levels)-1 {
			return lambent.Errorf(lambent.Invalid, "mqtt", "%.100q is no topic filter of MQTT: + stands for a level, and # for all that follow", filter)
		}
	}
	if strings.HasPrefix(filter, "$share/") {
		return lambent.Errorf(lambent.Invalid, "mqtt", "a shared subscription is what a group is: say the topic filter alone, and the group beside it")
	}
	return nil
}

// Reasons of brokers (https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html, 2.4).
const (
	unsupportedVersion = 0x84
	badPassword        = 0x86
	notAuthorized      = 0x87
	banned             = 0x8a
	invalidFilter      = 0x8f
	noShared           = 0x9e
	noWildcards        = 0xa2
)

// refused is an error with a reason of the broker's.
func (c *client) refused(reason byte, what string, err error) error {
	switch reason {
	case unsupportedVersion:
		return lambent.Errorf(lambent.Unsupported, "mqtt", "%s does not speak MQTT 5", c.b.Masked())
	case badPassword:
		return broker.Fail(c.b, lambent.Invalid, what, errors.New("the user or the password is wrong"))
	case notAuthorized, banned:
		return broker.Fail(c.b, lambent.Invalid, what, errors.New("not authorized"))
	case invalidFilter, noShared, noWildcards:
		return broker.Fail(c.b, lambent.Invalid, what, fmt.Errorf("reason 0x%02x: %w", reason, err))
	}
	return broker.Fail(c.b, lambent.Unavailable, what, fmt.Errorf("reason 0x%02x: %w", reason, err))
}

// Values of the option Retain Handling: what is retained is sent, or not.
const (
	sendRetained   = 0
	ignoreRetained = 2
)

func (c *client) subscribe(ctx context.Context, retained byte) error {
	filter := c.b.Topic
	if c.b.Group != "" {
		filter = "$share/" + c.b.Group + "/" + filter
		retained = sendRetained // another is none of shared subscriptions, which have nothing retained
	}
	ack, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1, RetainHandling: retained, RetainAsPublished: true}}})
	if err != nil && ack != nil && len(ack.Reasons) > 0 {
		return c.refused(ack.Reasons[0], "does not allow to subscribe to "+filter, err)
	}
	if err != nil {
		return broker.Fail(c.b, lambent.Unavailable, "does not answer", err)
	}
	return nil
}

// Check implements broker.Driver: it subscribes, and is gone.
func (Driver) Check(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(ctx, t.Broker, "", true, false)
	if err != nil {
		return err
	}
	defer c.close()
	return c.subscribe(ctx, ignoreRetained)
}

// Prepare implements broker.Driver: from then on the broker keeps what comes. What is
// retained is for a session that begins when there is somebody to take it.
func (Driver) Prepare(ctx context.Context, t *lambent.Trigger) error {
	if t.Broker.From == lambent.FromEarliest {
		return nil
	}
	c, err := connect(ctx, t.Broker, broker.NameOf(t), true, true)
	if err != nil {
		return err
	}
	defer c.close()
	return c.subscribe(ctx, ignoreRetained)
}

// Forget implements broker.Driver: a session that is clean and not kept is none.
func (Driver) Forget(ctx context.Context, t *lambent.Trigger) error {
	c, err := connect(ctx, t.Broker, broker.NameOf(t), true, false)
	if err != nil {
		return err
	}
	c.close()
	return nil
}

// Consume implements broker.Driver.
func (Driver) Consume(ctx context.Context, t *lambent.Trigger) (broker.Stream, error) {
	c, err := connect(ctx, t.Broker, broker.NameOf(t), false, true)
	if err != nil {
		return nil, err
	}
	s := &stream{client: c}
	if !c.present {
		retained := byte(ignoreRetained)
		if t.Broker.From == lambent.FromEarliest {
			retained = sendRetained
		} else {
			s.warning = "the broker had forgotten the session: what was sent while nobody was connected may be lost"
		}
		if err := c.subscribe(ctx, retained); err != nil {
			c.close()
			return nil, err
		}
	}
	return s, nil
}

// A stream is one that is read.
type stream struct {
	*client
	warning string
	taken   []*paho.Publish
}

// Receive implements broker.Stream.
func (s *stream) Receive(ctx context.Context) ([]broker.Message, error) {
	s.wire.Taken()
	s.taken = s.taken[:0]
	select {
	case p := <-s.incoming:
		s.taken = append(s.taken, p)
	case err := <-s.failed:
		return nil, broker.Fail(s.b, lambent.Unavailable, "does not answer", err)
	case <-s.Client.Done():
		return nil, lambent.Errorf(lambent.Unavailable, "mqtt", "%s has ended the connection", s.b.Masked())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for len(s.taken) < maxOut {
		select {
		case p := <-s.incoming:
			s.taken = append(s.taken, p)
			continue
		default:
		}
		break
	}
	all := make([]broker.Message, len(s.taken))
	for i, p := range s.taken {
		m := &all[i]
		m.Engine, m.Broker, m.Topic, m.Order, m.Body, m.QoS, m.Retained = "mqtt", s.b.Address(), p.Topic, p.Topic, broker.Text(p.Payload), int(p.QoS), p.Retain
		if p.Properties == nil {
			continue
		}
		m.ContentType, m.ResponseTopic = p.Properties.ContentType, p.Properties.ResponseTopic
		if p.Properties.CorrelationData != nil {
			m.Correlation = broker.Text(p.Properties.CorrelationData)
		}
		for _, u := range p.Properties.User {
			m.Headers = append(m.Headers, lambent.Header{Name: u.Key, Value: lambent.Bytes(u.Value)})
		}
	}
	return all, nil
}

// Done implements broker.Stream.
func (s *stream) Done(context.Context) error {
	for _, p := range s.taken {
		if err := s.Ack(p); err != nil {
			return broker.Fail(s.b, lambent.Unavailable, "cannot be told what was taken", err)
		}
	}
	return nil
}

// Waiting implements broker.Stream.
func (*stream) Waiting(context.Context) (int64, error) { return -1, nil }

// Warning implements broker.Warner.
func (s *stream) Warning() string { return s.warning }

// Close implements broker.Stream. The session stays.
func (s *stream) Close() {
	time.Sleep(2 * ackEvery) // what is acknowledged is on its way
	s.close()
}

// close does not wait long for the other side.
func (c *client) close() {
	close(c.gone)
	_ = c.wire.SetDeadline(time.Now().Add(time.Second))
	_ = c.Disconnect(&paho.Disconnect{ReasonCode: 0})
}
