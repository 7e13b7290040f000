package brokertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"lambent"
	"lambent/source/databasetest"
)

// A KafkaServer is its own controller. Its superuser is app, with the password "secret", and
// nobody else may do anything.
type KafkaServer struct{ databasetest.Daemon }

// Kafka runs on Java, out of what tools/setup.sh fetches.
var Kafka = program(func() string {
	_, err := exec.LookPath("java")
	return lacking(err == nil && jars() != "", "there is no Kafka: tools/setup.sh test")
}, newKafka)

func jars() string {
	for _, root := range []string{"..", "../.."} { // of a package's directory
		if found, _ := filepath.Glob(root + "/.venv/kafka-*/kafka_*.jar"); len(found) > 0 {
			if dir, err := filepath.Abs(filepath.Dir(found[len(found)-1])); err == nil {
				return filepath.Join(dir, "*")
			}
		}
	}
	return ""
}

func java(dir, class string, args ...string) *exec.Cmd {
	program, _ := exec.LookPath("java")
	cmd := databasetest.Command(dir, program, append([]string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars(), class}, args...)...)
	if cmd.SysProcAttr != nil {
		cmd.SysProcAttr.Credential = nil // where the jars lie others may not look
	}
	return cmd
}

func newKafka() (*KafkaServer, error) {
	controller, err := databasetest.FreePort()
	if err != nil {
		return nil, err
	}
	s := &KafkaServer{}
	s.Daemon, err = databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
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
	}, func(context.Context, int) error {
		return s.Ask(func(ctx context.Context, c *kadm.Client) error {
			_, err := c.FetchOffsets(ctx, "none") // the coordinator of groups comes last
			return err
		})
	})
	return s, err
}

func (s *KafkaServer) connect(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(fmt.Sprintf("127.0.0.1:%d", s.Port)), kgo.SASL(plain.Auth{User: "app", Pass: "secret"}.AsMechanism()), kgo.ProducerBatchMaxBytes(6 << 20),
		kgo.RequestRetries(2), kgo.RetryTimeout(3 * time.Second),
	}, more...)...)
}

// Ask does something as an administrator, within a few seconds.
func (s *KafkaServer) Ask(do func(context.Context, *kadm.Client) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	return do(ctx, kadm.NewClient(c))
}

// Topic implements Server: it has three partitions.
func (s *KafkaServer) Topic(t testing.TB) lambent.Broker {
	t.Helper()
	name := fmt.Sprint("t", time.Now().UnixNano())
	err := s.Ask(func(ctx context.Context, c *kadm.Client) error {
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

// Produce has records acknowledged.
func (s *KafkaServer) Produce(records []*kgo.Record, more ...kgo.Opt) error {
	c, err := s.connect(append([]kgo.Opt{kgo.RecordDeliveryTimeout(3 * time.Second)}, more...)...)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.ProduceSync(context.Background(), records...).FirstErr()
}

// Send implements Server.
func (s *KafkaServer) Send(b lambent.Broker, messages ...Message) error {
	var records []*kgo.Record
	for _, m := range messages {
		records = append(records, &kgo.Record{Topic: b.Topic, Key: []byte(m.Key), Value: []byte(m.Value)})
	}
	return s.Produce(records)
}
