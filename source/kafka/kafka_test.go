package kafka_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"lambent"
	"lambent/source/broker"
	"lambent/source/brokertest"
	"lambent/source/databasetest"
	"lambent/source/kafka"
)

var src = broker.New(kafka.Driver{})

func TestMain(m *testing.M) { os.Exit(brokertest.Main(m, src)) }

func TestSuite(t *testing.T) {
	s := brokertest.Kafka.Shared(t)
	brokertest.Test(t, brokertest.Kind{
		Source: src, Server: s,
		Groups: func(t testing.TB, b lambent.Broker) (names []string) {
			err := s.Ask(func(ctx context.Context, c *kadm.Client) error {
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
	s := brokertest.Kafka.Shared(t)
	b := s.Topic(t)
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
	s := brokertest.Kafka.Shared(t)
	b := s.Topic(t)
	err := s.Ask(func(ctx context.Context, c *kadm.Client) error {
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
	if err := s.Produce([]*kgo.Record{{Topic: b.Topic, Value: []byte("1")}}); err != nil {
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
	s := brokertest.Kafka.Shared(t)
	b := s.Topic(t)
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	at := time.Now().Truncate(time.Millisecond)
	err := s.Produce([]*kgo.Record{{
		Topic: b.Topic, Key: []byte("k\xff"), Value: []byte("<a>"), Timestamp: at, Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte{0xff}}},
	}})
	if err == nil {
		err = s.Produce([]*kgo.Record{{Topic: b.Topic, Timestamp: at}})
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
	s := brokertest.Kafka.Shared(t)
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
			b := s.Topic(t)
			k := brokertest.Kind{Source: src}
			w := k.Watch(t, b)
			bomb := c.bomb
			for _, r := range []*kgo.Record{{Value: []byte("before")}, &bomb, {Value: []byte("behind")}} {
				r.Topic, r.Key = b.Topic, []byte("k")
				if err := s.Produce([]*kgo.Record{r}, kgo.ProducerBatchCompression(c.codec), kgo.ProducerBatchMaxBytes(100<<20), kgo.BrokerMaxWriteBytes(100<<20)); err != nil {
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
	s := brokertest.Kafka.Shared(t)
	b := s.Topic(t)
	const n, each = 24, 40 << 20
	value := make([]byte, each)
	for range n {
		err := s.Produce([]*kgo.Record{{Topic: b.Topic, Value: value}},
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
