package mqtt_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"lambent"
	"lambent/source"
	"lambent/source/broker"
	"lambent/source/brokertest"
	"lambent/source/databasetest"
	"lambent/source/mqtt"
)

var src = broker.New(mqtt.Driver{})

func TestMain(m *testing.M) { os.Exit(brokertest.Main(m, src)) }

func kind(s *brokertest.MQTTServer) brokertest.Kind {
	return brokertest.Kind{Source: src, Server: s, NoGroups: true, NoPast: true, Unnamed: true}
}

func TestSuite(t *testing.T) { brokertest.Test(t, kind(brokertest.MQTT.Shared(t))) }

// Two triggers both have everything, those of a group share it, and nothing is left of them.
func TestSessions(t *testing.T) {
	s := brokertest.MQTT.Shared(t)
	k := kind(s)
	b := s.Topic(t)
	one, two := k.Watch(t, b), k.Watch(t, b)
	shared := b
	shared.Group = "shared"
	three, four := k.Watch(t, shared), k.Watch(t, shared)
	if err := k.Send(b, brokertest.Numbered(0, 60)...); err != nil {
		t.Fatal(err)
	}
	one.Wait(60)
	two.Wait(60)
	databasetest.Until(t, "the group has all", func() bool { return len(three.Events())+len(four.Events()) == 60 })
	if len(three.Events()) == 0 || len(four.Events()) == 0 {
		t.Errorf("%d and %d", len(three.Events()), len(four.Events()))
	}
	one.Stop()
	has := func() bool {
		c, present, err := s.Connect(t.Context(), broker.NameOf(&one.Trigger), false)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Disconnect(&paho.Disconnect{}); err != nil {
			t.Fatal(err)
		}
		return present
	}
	if !has() {
		t.Error("there is no session of a trigger that is not connected")
	}
	for range 2 {
		if err := src.Forget(t.Context(), one.Trigger); err != nil {
			t.Fatal(err)
		}
	}
	if has() {
		t.Error("there is a session of a trigger that was forgotten")
	}
}

// What is retained is for who begins with that, once.
func TestRetained(t *testing.T) {
	s := brokertest.MQTT.Shared(t)
	k := kind(s)
	b := s.Topic(t)
	at := strings.TrimSuffix(b.Topic, "+") + "a"
	if err := s.Publish(&paho.Publish{Topic: at, Payload: []byte("0"), Retain: true}); err != nil {
		t.Fatal(err)
	}
	all := b
	all.From = lambent.FromEarliest
	w, fresh := k.Watch(t, all), k.Watch(t, b)
	if e := w.Wait(1)[0]; !strings.Contains(string(e.Data), `"retained":true`) {
		t.Errorf("%s", e.Data)
	}
	w.Stop()
	w.Run()
	if err := s.Publish(&paho.Publish{Topic: at, Payload: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	w.Wait(2)
	fresh.Wait(1)
	if len(w.Events()) != 2 || len(fresh.Events()) != 1 {
		t.Errorf("%d, %d", len(w.Events()), len(fresh.Events()))
	}
}

// A session that the broker has forgotten is begun anew, and that is said.
func TestForgottenSession(t *testing.T) {
	s := brokertest.MQTT.Shared(t)
	k := kind(s)
	b := s.Topic(t)
	w := k.Prepare(t, b)
	if err := src.Forget(t.Context(), w.Trigger); err != nil {
		t.Fatal(err)
	}
	w.Run()
	databasetest.Until(t, "it is said", func() bool {
		lag, known := source.Gauge(src).Lag(w.Trigger)
		return known && strings.Contains(lag.Warning, "forgotten the session")
	})
	if err := k.Send(b, brokertest.Numbered(0, 1)...); err != nil {
		t.Fatal(err)
	}
	w.Wait(1)
}

// That one may not subscribe mosquitto does not say: it hands out nothing.
func TestRefusals(t *testing.T) {
	s := brokertest.MQTT.Shared(t)
	b := s.Topic(t)
	for _, k := range []struct {
		b    lambent.Broker
		want string
	}{
		{lambent.Broker{URL: b.URL, Topic: "a/#/b"}, "is no topic filter"},
		{lambent.Broker{URL: b.URL, Topic: "$share/g/a"}, "the group beside it"},
		{lambent.Broker{URL: strings.Replace(b.URL, "secret", "wrong-one", 1), Topic: b.Topic}, "refuses it: not authorized"},
		{lambent.Broker{URL: b.URL + "/x", Topic: b.Topic}, "nothing behind its host"},
	} {
		err := src.Check(brokertest.NewTrigger(k.b))
		if !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), k.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong-one") {
			t.Errorf("%s %s: %v, want %s", k.b.Masked(), k.b.Topic, err, k.want)
		}
	}
}

// What a message has is told, whatever it is.
func TestMessage(t *testing.T) {
	s := brokertest.MQTT.Shared(t)
	b := s.Topic(t)
	k := kind(s)
	w := k.Watch(t, b)
	at := strings.TrimSuffix(b.Topic, "+") + "k"
	err := s.Publish(&paho.Publish{Topic: at, Payload: []byte("<\xff>"), Properties: &paho.PublishProperties{
		ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte("c"), User: paho.UserProperties{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "3"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	e := w.Wait(1)[0]
	want := fmt.Sprintf(`{"engine":"mqtt","broker":"127.0.0.1:%d","topic":"%s","body":{"base64":"PP8+"},"headers":[{"name":"b","value":"1"},{"name":"a","value":"2"},{"name":"b","value":"3"}],`+
		`"qos":1,"content_type":"text/plain","response_topic":"r","correlation":"c"}`, s.Port, at)
	if string(e.Data) != want || e.Subject != at || e.Extensions[lambent.PartitionKey] != at {
		t.Errorf("%s\nwant %s", e.Data, want)
	}
}

// Whoever says that much will come as there is no room for is not believed.
func TestHostile(t *testing.T) {
	for _, says := range []string{"\x20\xff\xff\xff\x7f", "\x20\xff\xff\xff\xff\xff\xff\x01", "\x30\x80\x80\x80\x04"} {
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
				_, _ = c.Write([]byte(says))
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}
		}()
		err = src.Check(brokertest.NewTrigger(lambent.Broker{URL: "mqtt://" + l.Addr().String(), Topic: "a"}))
		if err == nil || !strings.Contains(err.Error(), "over the limit") {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// A broker that has no MQTT 5 is said to have none, however it says so.
func TestOlder(t *testing.T) {
	for _, says := range []string{"\x20\x02\x00\x01", "\x20\x03\x00\x84\x00"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = c.Read(make([]byte, 1000))
			_, _ = c.Write([]byte(says))
			_, _ = io.Copy(io.Discard, c)
		}()
		err = src.Check(brokertest.NewTrigger(lambent.Broker{URL: "mqtt://" + l.Addr().String(), Topic: "a"}))
		if !lambent.Is(err, lambent.Unsupported) || !strings.Contains(err.Error(), "MQTT 5") {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// hostile is a broker that says something once it has greeted, again and again; each
// subscription it takes.
func hostile(t *testing.T, says string) lambent.Broker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Write([]byte("\x20\x03\x00\x00\x00" + "\x90\x04\x00\x01\x00\x01"))
				for err == nil {
					_, err = c.Write([]byte(says))
				}
			}()
		}
	}()
	return lambent.Broker{URL: "mqtt://" + l.Addr().String(), Topic: "a"}
}

// What nobody who only subscribes is to hear ends the connection: the client would answer it.
func TestUnasked(t *testing.T) {
	for _, says := range []string{"\x50\x02\x00\x07", "\x62\x02\x00\x07", "\x40\x02\x00\x07", "\x34\x07\x00\x01a\x00\x01\x00x"} {
		b := hostile(t, says)
		for range 200 {
			_ = src.Check(brokertest.NewTrigger(b))
		}
	}
}

// What waits at quality 0, of which there may be any number, does not keep a trigger from
// ending that has no room for it; nor does a broker that listens no more.
func TestEnd(t *testing.T) {
	s := brokertest.MQTT.Shared(t)
	k := kind(s)
	b := k.Topic(t)
	w := k.Watch(t, b)
	w.Set(func() { w.Most = 1 })
	c, _, err := s.Connect(t.Context(), "", true)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		if _, err := c.Publish(t.Context(), &paho.Publish{Topic: strings.TrimSuffix(b.Topic, "+") + "a", Payload: fmt.Append(nil, n)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	databasetest.Until(t, "there is no room", func() bool {
		lag, known := src.Lag(w.Trigger)
		return known && strings.Contains(lag.Warning, "full")
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Stop()
	}()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
}
