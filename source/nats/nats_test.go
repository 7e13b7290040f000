package nats_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
	"lambent/source/broker"
	"lambent/source/brokertest"
	"lambent/source/databasetest"
	"lambent/source/nats"
)

var src = broker.New(nats.Driver{})

func TestMain(m *testing.M) { os.Exit(brokertest.Main(m, src)) }

func TestSuite(t *testing.T) {
	s := brokertest.NATS.Shared(t)
	brokertest.Test(t, brokertest.Kind{
		Source: src, Server: s,
		Groups: func(t testing.TB, b lambent.Broker) (names []string) {
			err := s.Ask(func(ctx context.Context, js jetstream.JetStream) error {
				stream, err := js.Stream(ctx, strings.TrimSuffix(b.Topic, ".>"))
				if err != nil {
					return err
				}
				l := stream.ConsumerNames(ctx)
				for name := range l.Name() {
					names = append(names, name)
				}
				return l.Err()
			})
			if err != nil {
				t.Fatal(err)
			}
			return names
		},
	})
}

func TestRefusals(t *testing.T) {
	s := brokertest.NATS.Shared(t)
	b := s.Topic(t)
	for _, k := range []struct {
		b    lambent.Broker
		want string
	}{
		{lambent.Broker{URL: b.URL, Topic: "nosuch"}, "no stream of nats://app:xxxxx@"},
		{lambent.Broker{URL: b.URL, Topic: "a..b"}, "no subject of NATS"},
		{lambent.Broker{URL: strings.Replace(b.URL, "secret", "wrong-one", 1), Topic: b.Topic}, "refuses it: nats: Authorization Violation"},
		{lambent.Broker{URL: strings.Replace(b.URL, "app:secret", "some-token", 1), Topic: b.Topic}, "Authorization Violation"},
		{lambent.Broker{URL: strings.Replace(b.URL, "app:", "nobody:", 1), Topic: b.Topic}, "does not allow it"},
		{lambent.Broker{URL: b.URL + "/x", Topic: b.Topic}, "nothing behind its host"},
	} {
		err := src.Check(brokertest.NewTrigger(k.b))
		if !lambent.Is(err, lambent.Invalid) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(k.want)) ||
			strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong-one") || strings.Contains(err.Error(), "some-token") {
			t.Errorf("%s %s: %v, want %s", k.b.Masked(), k.b.Topic, err, k.want)
		}
	}
	err := s.Ask(func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.CreateOrUpdateConsumer(ctx, strings.TrimSuffix(b.Topic, ".>"), jetstream.ConsumerConfig{Durable: "others", AckPolicy: jetstream.AckNonePolicy})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Group = "others"
	if err := src.Prepare(t.Context(), brokertest.NewTrigger(b), nil); !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), "none that a trigger can take from") {
		t.Error(err)
	}
}

// What a message has is told.
func TestMessage(t *testing.T) {
	s := brokertest.NATS.Shared(t)
	b := s.Topic(t)
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	name := strings.TrimSuffix(b.Topic, ".>")
	m := client.NewMsg(name + ".eu")
	m.Header.Add("B", "1")
	m.Header.Add("B", "2")
	m.Header.Add("A", "x")
	m.Data = []byte(`{"a": 1}`)
	err := s.Ask(func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.PublishMsg(ctx, m)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e := w.Wait(1)[0]
	want := fmt.Sprintf(`{"engine":"nats","broker":"127.0.0.1:%d","topic":"%s.eu","body":"{\"a\": 1}","headers":[{"name":"A","value":"x"},{"name":"B","value":"1"},{"name":"B","value":"2"}],"stream":"%s","sequence":1}`, s.Port, name, name)
	if string(e.Data) != want || e.Subject != name+".eu" || e.Extensions[lambent.PartitionKey] != name+".eu" {
		t.Errorf("%s\nwant %s", e.Data, want)
	}
	if err := s.Ask(func(ctx context.Context, js jetstream.JetStream) error { return js.DeleteStream(ctx, name) }); err != nil {
		t.Fatal(err)
	}
	databasetest.Until(t, "it is said that the stream is gone", func() bool { return w.Failure() != nil })
}

// Whoever says that much will come as there is no room for is not believed.
func TestHostile(t *testing.T) {
	for _, says := range []string{"MSG a 1 99999999999999\r\n", "HMSG a 1 5 9999999999999999999999\r\n", "MSG " + strings.Repeat("x", 100_000)} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte("INFO {\"max_payload\":1048576}\r\n"))
				_, _ = c.Write([]byte(says))
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}
		}()
		if err := src.Check(brokertest.NewTrigger(lambent.Broker{URL: "nats://" + l.Addr().String(), Topic: "a"})); err == nil {
			t.Errorf("%.20q is believed", says)
		}
	}
}

// A server that wants TLS has it, with a certificate that is looked at.
func TestTLS(t *testing.T) {
	made := brokertest.NewPair(t)
	pair, err := tls.X509KeyPair([]byte(made.Certificate), []byte(made.Key))
	if err != nil {
		t.Fatal(err)
	}
	at := secure(t, &tls.Config{Certificates: []tls.Certificate{pair}})
	c, err := client.Connect(fmt.Sprintf("nats://127.0.0.1:%d", at))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, lambent.Broker{URL: fmt.Sprintf("nats://127.0.0.1:%d", at), Topic: "s"})
	for i := range 50 {
		if _, err := js.Publish(t.Context(), "s", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	w.Wait(50)
	if err := src.Check(brokertest.NewTrigger(lambent.Broker{URL: fmt.Sprintf("nats://localhost:%d", at), Topic: "s"})); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of another name: %v", err)
	}
	if err := src.Check(brokertest.NewTrigger(lambent.Broker{URL: fmt.Sprintf("tls://127.0.0.1:%d", at), Topic: "s"})); err != nil {
		t.Error(err)
	}

	who := x509.NewCertPool()
	who.AddCert(pair.Leaf)
	at = secure(t, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: who})
	c, err = client.Connect(fmt.Sprintf("tls://127.0.0.1:%d", at), client.ClientCert(made.CertificateFile, made.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if js, err = jetstream.New(c); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "s", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	brokertest.TestTLS(t, src, lambent.Broker{URL: fmt.Sprintf("tls://127.0.0.1:%d", at), Topic: "s"}, made)
}

// secure is the port of a server with TLS.
func secure(t *testing.T, cfg *tls.Config) int {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, TLS: true, TLSTimeout: 5, TLSConfig: cfg,
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return s.Addr().(*net.TCPAddr).Port
}

// With tls:// nothing is said to who has none, or takes the offer of it away.
func TestNoTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	said := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Write([]byte("INFO {\"max_payload\":1048576}\r\n"))
		b, _ := io.ReadAll(c)
		said <- b
	}()
	err = src.Check(brokertest.NewTrigger(lambent.Broker{URL: "tls://app:secret@" + l.Addr().String(), Topic: "a"}))
	if err == nil || !strings.Contains(err.Error(), "no TLS, which tls:// insists on") {
		t.Error(err)
	}
	if b := <-said; len(b) > 0 {
		t.Errorf("it has said %q", b)
	}
}
