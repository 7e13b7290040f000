package rabbitmq_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"lambent"
	"lambent/source/broker"
	"lambent/source/brokertest"
	"lambent/source/databasetest"
	"lambent/source/rabbitmq"
)

var src = broker.New(rabbitmq.Driver{})

func TestMain(m *testing.M) { os.Exit(brokertest.Main(m, src)) }

// Queues are made before they are asked for.
type queues struct {
	*brokertest.RabbitMQServer
	made []lambent.Broker
}

// Topic implements brokertest.Server.
func (q *queues) Topic(t testing.TB) lambent.Broker {
	t.Helper()
	if len(q.made) == 0 {
		t.Fatal("there are no more queues")
	}
	b := q.made[0]
	q.made = q.made[1:]
	return b
}

// unnamed has messages that nobody has named.
type unnamed struct{ *brokertest.RabbitMQServer }

// Send implements brokertest.Server.
func (u unnamed) Send(b lambent.Broker, messages ...brokertest.Message) error {
	var all []amqp091.Publishing
	for _, m := range messages {
		all = append(all, amqp091.Publishing{Body: []byte(m.Value)})
	}
	return u.Publish(b.Topic, all...)
}

// kind has queues that are there from the beginning, so that they are on disk when it comes
// to a crash.
func kind(t testing.TB, args amqp091.Table) brokertest.Kind {
	t.Helper()
	q := &queues{RabbitMQServer: brokertest.RabbitMQ.Shared(t)}
	for range 10 {
		q.made = append(q.made, q.Queue(t, args))
	}
	return brokertest.Kind{Source: src, Server: q, NoGroups: true, NoPast: true}
}

func TestSuite(t *testing.T) { brokertest.Test(t, kind(t, nil)) }

// Quorum queues count deliveries, and are the same otherwise.
func TestQuorum(t *testing.T) {
	brokertest.TestAgain(t, kind(t, amqp091.Table{"x-queue-type": "quorum"}))
}

// Messages without a message-id come, too, perhaps twice.
func TestUnnamed(t *testing.T) {
	brokertest.TestAgain(t, brokertest.Kind{Source: src, Server: unnamed{brokertest.RabbitMQ.Shared(t)}, Unnamed: true})
}

func TestRefusals(t *testing.T) {
	s := brokertest.RabbitMQ.Shared(t)
	b := s.Queue(t, nil)
	s.Control(t, "eval", `[rabbit_auth_backend_internal:add_user(U, <<"secret">>, <<"test">>) || U <- [<<"nobody">>, <<"writer">>]],
		rabbit_auth_backend_internal:set_permissions(<<"writer">>, <<"/">>, <<".*">>, <<".*">>, <<"^$">>, <<"test">>).`)
	for _, k := range []struct {
		b    lambent.Broker
		want string
	}{
		{lambent.Broker{URL: b.URL, Topic: "nosuch"}, "has no queue nosuch in the virtual host /"},
		{lambent.Broker{URL: strings.Replace(b.URL, "secret", "wrong-one", 1), Topic: b.Topic}, "refuses it: username or password not allowed"},
		{lambent.Broker{URL: strings.Replace(b.URL, "app:", "nobody:", 1), Topic: b.Topic}, "refuses it"},
		{lambent.Broker{URL: strings.Replace(b.URL, "app:", "writer:", 1), Topic: b.Topic}, "refuses it: ACCESS_REFUSED"},
		{lambent.Broker{URL: b.URL + "/nosuch", Topic: b.Topic}, "refuses it"},
		{lambent.Broker{URL: b.URL + "?heartbeat=1", Topic: b.Topic}, "no parameters"},
	} {
		err := src.Check(brokertest.NewTrigger(k.b))
		if !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), k.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong-one") {
			t.Errorf("%s %s: %v, want %s", k.b.Masked(), k.b.Topic, err, k.want)
		}
	}
}

// What a message has is told, whatever it is; what is too large goes to the queue's dead
// letter exchange.
func TestMessage(t *testing.T) {
	s := brokertest.RabbitMQ.Shared(t)
	dead := s.Queue(t, nil)
	b := s.Queue(t, amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.Topic})
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	at := time.Now().Truncate(time.Second)
	err := s.Publish(b.Topic, amqp091.Publishing{Body: make([]byte, 2<<20), MessageId: "large"}, amqp091.Publishing{
		Body: []byte("\xff"), MessageId: "m1", ContentType: "text/plain", Timestamp: at, Expiration: "60000", CorrelationId: "c", Type: "t", UserId: "app", AppId: "a", Priority: 3, ReplyTo: "r",
		Headers: amqp091.Table{
			"text": "x", "bytes": []byte{0xff}, "int": int64(1) << 60, "yes": true, "none": nil, "list": []any{"a", int32(1)}, "at": at, "price": amqp091.Decimal{Scale: 2, Value: -5},
			"table": amqp091.Table{"a": 1.5},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := w.Wait(1)[0]
	when := at.UTC().Format(time.RFC3339)
	want := fmt.Sprintf(`{"engine":"rabbitmq","broker":"127.0.0.1:%d","topic":"%s","body":{"base64":"/w=="},"amqp":{"virtual_host":"/","exchange":"","routing_key":"%s","redelivered":false,`+
		`"content_type":"text/plain","headers":{"at":"%s","bytes":{"base64":"/w=="},"int":1152921504606846976,"list":["a",1],"none":null,"price":"-0.05","table":{"a":1.5},"text":"x","yes":true},`+
		`"delivery_mode":2,"priority":3,"correlation_id":"c","reply_to":"r","expiration":"60000","message_id":"m1","timestamp":"%s","type":"t","user_id":"app","app_id":"a"}}`, s.Port, b.Topic, b.Topic, when, when)
	if string(e.Data) != want || !e.Time.Equal(at) {
		t.Errorf("%s\nwant %s", e.Data, want)
	}
	c, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	databasetest.Until(t, "what is too large is among the dead letters", func() bool {
		m, ok, err := ch.Get(dead.Topic, true)
		return err == nil && ok && m.MessageId == "large"
	})
	if _, err := ch.QueueDelete(b.Topic, false, false, false); err != nil {
		t.Fatal(err)
	}
	databasetest.Until(t, "it is said that the queue is gone", func() bool { return w.Failure() != nil })
}

// A stream would forget where the trigger is.
func TestStream(t *testing.T) {
	s := brokertest.RabbitMQ.Shared(t)
	b := s.Queue(t, amqp091.Table{"x-queue-type": "stream"})
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	databasetest.Until(t, "it is refused", func() bool {
		if err := s.Publish(b.Topic, amqp091.Publishing{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		return lambent.Is(w.Failure(), lambent.Unsupported)
	})
}

// Whoever says that much will come as there is no room for is not believed.
func TestHostile(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	method := func(channel uint16, class, method uint16, args string) string {
		return frame(1, channel, string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, class), method))+args)
	}
	announced := frame(2, 1, "\x00\x3c\x00\x00"+"\xff\xff\xff\xff\xff\xff\xff\xff"+"\x00\x00")
	answers := map[[2]uint16]string{
		{10, 11}: method(0, 10, 30, "\x00\x08"+"\x00\x00\x00\x00"+"\x00\x00"), // frames of any size
		{10, 40}: method(0, 10, 41, "\x00"),
		{20, 10}: method(1, 20, 11, "\x00\x00\x00\x00"),
		{60, 10}: method(1, 60, 11, ""),
		{60, 20}: method(1, 60, 60, "\x00"+"\x00\x00\x00\x00\x00\x00\x00\x01"+"\x00\x00\x00") + announced + frame(3, 1, "x") + method(1, 60, 21, "\x00"),
		{10, 50}: method(0, 10, 51, ""),
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.CopyN(io.Discard, c, 8)
			_, err = io.WriteString(c, method(0, 10, 10, "\x00\x09"+"\x00\x00\x00\x00"+"\x00\x00\x00\x05PLAIN"+"\x00\x00\x00\x05en_US"))
			for head := make([]byte, 7); err == nil; {
				if _, err = io.ReadFull(c, head); err == nil {
					body := make([]byte, binary.BigEndian.Uint32(head[3:])+1)
					if _, err = io.ReadFull(c, body); err == nil && head[0] == 1 {
						_, err = io.WriteString(c, answers[[2]uint16{binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])}])
					}
				}
			}
			c.Close()
		}
	}()
	if err := src.Check(brokertest.NewTrigger(lambent.Broker{URL: "amqp://" + l.Addr().String(), Topic: "a"})); err != nil {
		t.Error(err) // it asks for no message
	}
}

// frame is one of AMQP's.
func frame(kind byte, channel uint16, payload string) string {
	b := binary.BigEndian.AppendUint16([]byte{kind}, channel)
	return string(binary.BigEndian.AppendUint32(b, uint32(len(payload)))) + payload + "\xce"
}
