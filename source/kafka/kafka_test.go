package kafka_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"lambent"
	"lambent/source/broker"
	"lambent/source/brokertest"
	"lambent/source/databasetest"
	"lambent/source/kafka"
)

var src = broker.New(kafka.Driver{})

func TestMain(m *testing.M) { os.Exit(brokertest.Main(m, src)) }

// jars are Kafka's, which tools/setup.sh fetches.
func jars() string {
	found, _ := filepath.Glob("../../.venv/kafka-*/kafka_*.jar")
	if len(found) == 0 {
		return ""
	}
	dir, err := filepath.Abs(filepath.Dir(found[len(found)-1]))
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "*")
}

func java(dir, class string, args ...string) *exec.Cmd {
	program, _ := exec.LookPath("java")
	cmd := databasetest.Command(dir, program, append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars(), class}, args...)...)
	if cmd.SysProcAttr != nil {
		cmd.SysProcAttr.Credential = nil // where the jars lie others may not look
	}
	return cmd
}

// shared is a broker that is its own controller, whose superuser is app, and where nobody
// else may do anything.
var shared = sync.OnceValues(func() (databasetest.Daemon, error) {
	controller, err := databasetest.FreePort()
	if err != nil {
		return databasetest.Daemon{}, err
	}
	s, err := databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		properties := filepath.Join(dir, "server.properties")
		if _, err := os.Stat(properties); err != nil {
			err := os.WriteFile(properties, fmt.Appendf(nil, strings.TrimSpace(`
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[2]d
listeners=SASL_PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d
advertised.listeners=SASL_PLAINTEXT://127.0.0.1:%[1]d
controller.listener.names=CONTROLLER
inter.broker.listener.name=SASL_PLAINTEXT
listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="app" password="secret" user_app="secret" user_nobody="secret";
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:app;User:ANONYMOUS
log.dirs=%[3]s/data
num.partitions=3
auto.create.topics.enable=false
message.max.bytes=8000000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
`)+"\n", port, controller, dir), 0o600)
			if err != nil {
				panic(err)
			}
			if out, err := java(dir, "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", properties).CombinedOutput(); err != nil {
				panic(string(out))
			}
		}
		return java(dir, "kafka.Kafka", properties)
	}, func(ctx context.Context, port int) error {
		return with(port, func(ctx context.Context, c *kadm.Client) error {
			_, err := c.FetchOffsets(ctx, "none") // the coordinator of groups comes last
			return err
		})
	})
	return s, databasetest.Share(s, err)
})

func options(port int) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", port)), kgo.SASL(plain.Auth{User: "app", Pass: "secret"}.AsMechanism()), kgo.ProducerBatchMaxBytes(6 << 20),
		kgo.RequestRetries(2), kgo.RetryTimeout(3 * time.Second),
	}
}

func with(port int, do func(ctx context.Context, c *kadm.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := kgo.NewClient(options(port)...)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, kadm.NewClient(c))
}

func running(t testing.TB) databasetest.Daemon {
	t.Helper()
	if _, err := exec.LookPath("java"); err != nil || jars() == "" {
		databasetest.Missing(t, "there is no Kafka: tools/setup.sh test")
	}
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func topic(t testing.TB, s databasetest.Daemon) lambent.Broker {
	t.Helper()
	name := fmt.Sprint("t", time.Now().UnixNano())
	err := with(s.Port, func(ctx context.Context, c *kadm.Client) error {
		if _, err := c.CreateTopic(ctx, 3, 1, nil, name); err != nil {
			return err
		}
		for { // it is made, and not yet told by who is asked for it
			topics, err := c.ListTopics(ctx, name)
			if err != nil || topics.Has(name) && topics[name].Err == nil && len(topics[name].Partitions) == 3 {
				return err
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return lambent.Broker{URL: fmt.Sprintf("kafka://app:secret@127.0.0.1:%d", s.Port), Topic: name}
}

// send has all acknowledged; not idempotent, so that nothing waits for who was killed.
func send(port int, records ...*kgo.Record) error { return produce(port, records) }

func produce(port int, records []*kgo.Record, more ...kgo.Opt) error {
	c, err := kgo.NewClient(slices.Concat(options(port), []kgo.Opt{kgo.RecordDeliveryTimeout(3 * time.Second)}, more)...)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ProduceSync(context.Background(), records...).FirstErr()
}

func TestSuite(t *testing.T) {
	s := running(t)
	brokertest.Test(t, brokertest.Kind{
		Source: src, Kill: s.Kill, Start: s.Start,
		Topic: func(t testing.TB) lambent.Broker { return topic(t, s) },
		Send: func(b lambent.Broker, messages ...brokertest.Message) error {
			var records []*kgo.Record
			for _, m := range messages {
				records = append(records, &kgo.Record{Topic: b.Topic, Key: []byte(m.Key), Value: []byte(m.Value)})
			}
			return send(s.Port, records...)
		},
		Groups: func(t testing.TB, b lambent.Broker) (names []string) {
			err := with(s.Port, func(ctx context.Context, c *kadm.Client) error {
				groups, err := c.ListGroups(ctx)
				if err != nil {
					return err
				}
				for _, name := range groups.Groups() {
					if at, err := c.FetchOffsets(ctx, name); err == nil && len(at[b.Topic]) > 0 {
						names = append(names, name)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return names
		},
	})
}

func TestRefusals(t *testing.T) {
	s := running(t)
	b := topic(t, s)
	for _, k := range []struct {
		b    lambent.Broker
		want string
	}{
		{lambent.Broker{URL: b.URL, Topic: "nosuch"}, "has no topic nosuch. There are: "},
		{lambent.Broker{URL: strings.Replace(b.URL, "secret", "wrong-one", 1), Topic: b.Topic}, "refuses it: SASL_AUTHENTICATION_FAILED"},
		{lambent.Broker{URL: b.URL + "?sasl=scram-sha-256", Topic: b.Topic}, "refuses it: UNSUPPORTED_SASL_MECHANISM"},
		{lambent.Broker{URL: b.URL + "?sasl=magic", Topic: b.Topic}, "sasl=magic is none of"},
		{lambent.Broker{URL: strings.Replace(b.URL, "app:", "nobody:", 1), Topic: b.Topic}, "does not allow it: TOPIC_AUTHORIZATION_FAILED"},
		{lambent.Broker{URL: b.URL + "?acks=all", Topic: b.Topic}, "it may have sasl"},
	} {
		err := src.Check(brokertest.NewTrigger(k.b))
		if !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), k.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong-one") {
			t.Errorf("%s %s: %v, want %s", k.b.Masked(), k.b.Topic, err, k.want)
		}
	}
}

// Who is known by SCRAM, and by no other way, gets what there is.
func TestSCRAM(t *testing.T) {
	s := running(t)
	b := topic(t, s)
	err := with(s.Port, func(ctx context.Context, c *kadm.Client) error {
		done, err := c.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "app", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: "another-secret"}})
		if err != nil {
			return err
		}
		return done.Error()
	})
	if err != nil {
		t.Fatal(err)
	}
	b.URL = strings.Replace(b.URL, ":secret@", ":another-secret@", 1)
	if err := src.Check(brokertest.NewTrigger(b)); !lambent.Is(err, lambent.Invalid) {
		t.Errorf("as PLAIN: %v", err)
	}
	b.URL += "?sasl=scram-sha-512"
	k := brokertest.Kind{Source: src}
	databasetest.Until(t, "the broker knows the user", func() bool { return src.Check(brokertest.NewTrigger(b)) == nil })
	w := k.Watch(t, b)
	if err := send(s.Port, &kgo.Record{Topic: b.Topic, Value: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	w.Wait(1)
	b.URL = strings.Replace(b.URL, "another-secret", "wrong-one", 1)
	if err := src.Check(brokertest.NewTrigger(b)); !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), "refuses it") || strings.Contains(err.Error(), "wrong-one") {
		t.Error(err)
	}
}

// What a record has is told, whatever it is.
func TestMessage(t *testing.T) {
	s := running(t)
	b := topic(t, s)
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	at := time.Now().Truncate(time.Millisecond)
	err := send(s.Port,
		&kgo.Record{Topic: b.Topic, Key: []byte("k\xff"), Value: []byte("<a>"), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte{0xff}}}})
	if err == nil {
		err = send(s.Port, &kgo.Record{Topic: b.Topic, Timestamp: at})
	}
	if err != nil {
		t.Fatal(err)
	}
	events := w.Wait(2)
	slices.SortFunc(events, func(a, b lambent.Event) int { return len(b.Data) - len(a.Data) })
	head := fmt.Sprintf(`{"engine":"kafka","broker":"127.0.0.1:%d","topic":"%s",`, s.Port, b.Topic)
	want := head + `"key":{"base64":"a/8="},"body":"<a>","headers":[{"name":"h","value":"1"},{"name":"h","value":{"base64":"/w=="}}],"partition":`
	if !strings.HasPrefix(string(events[0].Data), want) || !events[0].Time.Equal(at) || events[0].Extensions[lambent.PartitionKey] == "" {
		t.Errorf("%s\nwant %s", events[0].Data, want)
	}
	if want := head + `"partition":`; !strings.HasPrefix(string(events[1].Data), want) || !strings.HasPrefix(events[1].Extensions[lambent.PartitionKey], b.Topic+"-") {
		t.Errorf("%+v %s\nwant %s", events[1].Extensions, events[1].Data, want)
	}
}

// A few bytes that become many are not read, which is told, and stand in nobody's way.
func TestBombs(t *testing.T) {
	s := running(t)
	zeros, empty := make([]byte, 70<<20), make([]kgo.RecordHeader, 1<<20)
	for _, c := range []struct {
		name  string
		codec kgo.CompressionCodec
		bomb  kgo.Record
	}{
		{"gzip", kgo.GzipCompression(), kgo.Record{Value: zeros}},
		{"snappy", kgo.SnappyCompression(), kgo.Record{Headers: empty}},
		{"lz4", kgo.Lz4Compression(), kgo.Record{Value: zeros}},
		{"zstd", kgo.ZstdCompression(), kgo.Record{Value: zeros}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := topic(t, s)
			k := brokertest.Kind{Source: src}
			w := k.Watch(t, b)
			bomb := c.bomb
			for _, r := range []*kgo.Record{{Value: []byte("before")}, &bomb, {Value: []byte("behind")}} {
				r.Topic, r.Key = b.Topic, []byte("k")
				if err := produce(s.Port, []*kgo.Record{r}, kgo.ProducerBatchCompression(c.codec), kgo.ProducerBatchMaxBytes(100<<20), kgo.BrokerMaxWriteBytes(100<<20)); err != nil {
					t.Fatal(err)
				}
			}
			if events := w.Wait(2); brokertest.Value(&events[0]) != "before" || brokertest.Value(&events[1]) != "behind" {
				t.Errorf("%s, %s", events[0].Data, events[1].Data)
			}
			w.Set(func() {
				want := fmt.Sprintf("the batch of the records 1 to 1 of partition %d of topic %s becomes over %d bytes", bomb.Partition, b.Topic, 64<<20)
				if len(w.Refused) != 1 || !strings.Contains(string(w.Refused[0].Data), want) {
					t.Errorf("%+v\nwant %s", w.Refused, want)
				}
			})
		})
	}
}

// What an answer of a broker becomes has an end, too, however many batches are in it.
func TestMemory(t *testing.T) {
	s := running(t)
	b := topic(t, s)
	const n, each = 24, 40 << 20
	value := make([]byte, each)
	for range n {
		err := produce(s.Port, []*kgo.Record{{Topic: b.Topic, Value: value}},
			kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(100<<20), kgo.BrokerMaxWriteBytes(100<<20))
		if err != nil {
			t.Fatal(err)
		}
	}
	b.From = lambent.FromEarliest
	w := (&brokertest.Kind{Source: src}).Prepare(t, b)
	value = nil
	most := databasetest.Heap(t)
	w.Run()
	databasetest.Until(t, "all are refused", func() (all bool) {
		w.Set(func() { all = len(w.Refused) == n })
		return all
	})
	if most := most(); most > n*each/2 {
		t.Errorf("%d MB of heap for %d MB of records", most>>20, n*each>>20)
	} else {
		t.Logf("%d MB of heap for %d MB of records", most>>20, n*each>>20)
	}
}
