package rabbitmq_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
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

const program = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// shared is a RabbitMQ of a user app, beside a daemon of Erlang's names of its own.
var shared = sync.OnceValues(func() (databasetest.Daemon, error) {
	names, err := databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		return databasetest.Command(dir, "epmd", "-port", fmt.Sprint(port), "-address", "127.0.0.1")
	}, func(ctx context.Context, port int) error {
		return exec.CommandContext(ctx, "epmd", "-port", fmt.Sprint(port), "-names").Run()
	})
	if err := databasetest.Share(names, err); err != nil {
		return databasetest.Daemon{}, err
	}
	distribution, err := databasetest.FreePort()
	if err != nil {
		return databasetest.Daemon{}, err
	}
	s, err := databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		for name, content := range map[string]string{
			"rabbit.conf": "default_user = app\ndefault_pass = secret\nloopback_users = none\nmax_message_size = 8000000\n",
			"plugins":     "[].\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				panic(err)
			}
		}
		cmd := databasetest.Command(dir, program)
		cmd.Env = append(cmd.Env, environment(dir, names.Port)...)
		cmd.Env = append(cmd.Env, fmt.Sprintf("RABBITMQ_NODE_PORT=%d", port), fmt.Sprintf("RABBITMQ_DIST_PORT=%d", distribution),
			"RUNNING_UNDER_SYSTEMD=true") // it is the process itself, and no shell around it
		directory = dir
		return cmd
	}, func(_ context.Context, port int) error {
		c, err := dial(port)
		if err != nil {
			return err
		}
		return c.Close()
	})
	epmd = names.Port
	return s, databasetest.Share(s, err)
})

var (
	directory string // of the server
	epmd      int    // port
)

func environment(dir string, epmd int) []string {
	return []string{
		fmt.Sprintf("ERL_EPMD_PORT=%d", epmd), "ERL_EPMD_ADDRESS=127.0.0.1", fmt.Sprintf("RABBITMQ_NODENAME=test%d@localhost", epmd), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE=" + dir + "/data", "RABBITMQ_LOG_BASE=" + dir + "/log", "RABBITMQ_ENABLED_PLUGINS_FILE=" + dir + "/plugins", "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE=" + dir + "/rabbit.conf", "RABBITMQ_PID_FILE=" + dir + "/pid",
	}
}

// control runs rabbitmqctl.
func control(t testing.TB, args ...string) {
	t.Helper()
	cmd := databasetest.Command(directory, "/usr/lib/rabbitmq/bin/rabbitmqctl", args...)
	cmd.Env = append(cmd.Env, environment(directory, epmd)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rabbitmqctl %v: %v\n%s", args, err, out)
	}
}

func dial(port int) (*amqp091.Connection, error) {
	return amqp091.Dial(fmt.Sprintf("amqp://app:secret@127.0.0.1:%d/", port))
}

func running(t testing.TB) databasetest.Daemon {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		databasetest.Missing(t, "there is no RabbitMQ: apt-get install rabbitmq-server")
	}
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// queue makes one.
func queue(t testing.TB, s databasetest.Daemon, args amqp091.Table) lambent.Broker {
	t.Helper()
	c, err := dial(s.Port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprint("q", time.Now().UnixNano())
	if _, err := ch.QueueDeclare(name, true, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	return lambent.Broker{URL: fmt.Sprintf("amqp://app:secret@127.0.0.1:%d", s.Port), Topic: name}
}

// send has messages acknowledged.
func send(port int, queue string, messages ...amqp091.Publishing) error {
	c, err := dial(port)
	if err != nil {
		return err
	}
	defer c.Close()
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	var all []*amqp091.DeferredConfirmation
	for _, m := range messages {
		m.DeliveryMode = amqp091.Persistent
		d, err := ch.PublishWithDeferredConfirm("", queue, false, false, m)
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, d := range all {
		if ok, err := d.WaitContext(ctx); err != nil || !ok {
			return errors.Join(err, fmt.Errorf("confirmed: %v", ok))
		}
	}
	return nil
}

// unwritten is for how long RabbitMQ may have only in memory that there is a queue.
const unwritten = 4 * time.Second

// kind has queues that are there from the beginning, so that they are on disk when it comes
// to a crash.
func kind(t testing.TB, s databasetest.Daemon, args amqp091.Table, named bool) brokertest.Kind {
	t.Helper()
	queues := make([]lambent.Broker, 10)
	for i := range queues {
		queues[i] = queue(t, s, args)
	}
	declared := time.Now()
	return brokertest.Kind{
		Source: src, Start: s.Start, NoGroups: true, NoPast: true, Unnamed: !named,
		Kill: func() {
			time.Sleep(time.Until(declared.Add(unwritten))) // there is no asking
			s.Kill()
		},
		Topic: func(t testing.TB) (q lambent.Broker) {
			if len(queues) == 0 {
				t.Fatal("there are no more queues")
			}
			q, queues = queues[0], queues[1:]
			return q
		},
		Send: func(b lambent.Broker, messages ...brokertest.Message) error {
			var all []amqp091.Publishing
			for _, m := range messages {
				p := amqp091.Publishing{Body: []byte(m.Value)}
				if named {
					p.MessageId = lambent.NewID()
				}
				all = append(all, p)
			}
			return send(s.Port, b.Topic, all...)
		},
	}
}

func TestSuite(t *testing.T) { brokertest.Test(t, kind(t, running(t), nil, true)) }

// Quorum queues count deliveries, and are the same otherwise.
func TestQuorum(t *testing.T) {
	k := kind(t, running(t), amqp091.Table{"x-queue-type": "quorum"}, true)
	brokertest.TestAgain(t, k)
}

// Messages without a message-id come, too, perhaps twice.
func TestUnnamed(t *testing.T) {
	k := kind(t, running(t), nil, false)
	brokertest.TestAgain(t, k)
}

func TestRefusals(t *testing.T) {
	s := running(t)
	b := queue(t, s, nil)
	control(t, "eval", `[rabbit_auth_backend_internal:add_user(U, <<"secret">>, <<"test">>) || U <- [<<"nobody">>, <<"writer">>]],
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
	s := running(t)
	dead := queue(t, s, nil)
	b := queue(t, s, amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.Topic})
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	at := time.Now().Truncate(time.Second)
	err := send(s.Port, b.Topic, amqp091.Publishing{Body: make([]byte, 2<<20), MessageId: "large"}, amqp091.Publishing{
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
	c, err := dial(s.Port)
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
	s := running(t)
	b := queue(t, s, amqp091.Table{"x-queue-type": "stream"})
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	databasetest.Until(t, "it is refused", func() bool {
		if err := send(s.Port, b.Topic, amqp091.Publishing{Body: []byte("x")}); err != nil {
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
