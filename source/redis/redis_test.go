package redis_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	client "github.com/gomodule/redigo/redis"

	"lambent"
	"lambent/source/broker"
	"lambent/source/brokertest"
	"lambent/source/databasetest"
	"lambent/source/redis"
)

var src = broker.New(redis.Driver{})

func TestMain(m *testing.M) { os.Exit(brokertest.Main(m, src)) }

// must asks for something.
func must(t testing.TB, s *brokertest.RedisServer, command string, args ...any) any {
	t.Helper()
	v, err := s.Do(command, args...)
	if err != nil {
		t.Fatalf("%s %v: %v", command, args, err)
	}
	return v
}

func TestSuite(t *testing.T) {
	s := brokertest.Redis.Shared(t)
	brokertest.Test(t, brokertest.Kind{
		Source: src, Server: s,
		Groups: func(t testing.TB, b lambent.Broker) (names []string) {
			groups, err := client.Values(s.Do("XINFO", "GROUPS", b.Topic))
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range groups {
				name, _ := client.String(g.([]any)[1], nil)
				names = append(names, name)
			}
			return names
		},
	})
}

func TestRefusals(t *testing.T) {
	s := brokertest.Redis.Shared(t)
	b := s.Topic(t)
	must(t, s, "SET", "text", "x")
	must(t, s, "ACL", "SETUSER", "reader", "on", ">secret", "~other", "+@all")
	for _, k := range []struct {
		b    lambent.Broker
		want string
	}{
		{lambent.Broker{URL: b.URL, Topic: "nosuch"}, "has no stream nosuch"},
		{lambent.Broker{URL: b.URL, Topic: "text"}, `something else than a stream at "text"`},
		{lambent.Broker{URL: strings.Replace(b.URL, "secret", "wrong-one", 1), Topic: b.Topic}, "WRONGPASS"},
		{lambent.Broker{URL: strings.Replace(b.URL, ":secret@", "", 1), Topic: b.Topic}, "NOAUTH"},
		{lambent.Broker{URL: strings.Replace(b.URL, ":secret", "reader:secret", 1), Topic: b.Topic}, "NOPERM"},
		{lambent.Broker{URL: strings.Replace(b.URL, "/0", "/x", 1), Topic: b.Topic}, "no database of Redis"},
		{lambent.Broker{URL: strings.Replace(b.URL, "/0", "/99", 1), Topic: b.Topic}, "out of range"},
		{lambent.Broker{URL: b.URL + "?a=b", Topic: b.Topic}, "no parameters"},
	} {
		err := src.Check(brokertest.NewTrigger(k.b))
		if !lambent.Is(err, lambent.Invalid) || !strings.Contains(err.Error(), k.want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "wrong-one") {
			t.Errorf("%s %s: %v, want %s", k.b.Masked(), k.b.Topic, err, k.want)
		}
	}
}

// A user with a name, who may do what a trigger does and nothing else, gets what there is.
func TestUser(t *testing.T) {
	s := brokertest.Redis.Shared(t)
	b := s.Topic(t)
	must(t, s, "ACL", "SETUSER", "least", "on", ">another-secret", "~"+b.Topic, "-@all", "+exists", "+xinfo", "+xgroup", "+xreadgroup", "+xack")
	b.URL = strings.Replace(b.URL, ":secret", "least:another-secret", 1)
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	must(t, s, "XADD", b.Topic, "*", "value", "1")
	w.Wait(1)
	w.Stop()
	if err := src.Forget(t.Context(), w.Trigger); err != nil {
		t.Error(err)
	}
}

// What an entry has is told, whatever it is.
func TestMessage(t *testing.T) {
	s := brokertest.Redis.Shared(t)
	b := s.Topic(t)
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	id, err := client.String(s.Do("XADD", b.Topic, "*", "total", `{"a": "<b>"}`, "scan", "\xff\x00"))
	if err != nil {
		t.Fatal(err)
	}
	e := w.Wait(1)[0]
	want := fmt.Sprintf(`{"engine":"redis","broker":"127.0.0.1:%d","topic":"%s","fields":{"scan":{"base64":"/wA="},"total":"{\"a\": \"<b>\"}"},"entry":"%s"}`, s.Port, b.Topic, id)
	if string(e.Data) != want || e.Subject != b.Topic {
		t.Errorf("%s\nwant %s", e.Data, want)
	}
}

// A stream that is deleted is said to be, and not read anew in silence.
func TestGone(t *testing.T) {
	s := brokertest.Redis.Shared(t)
	b := s.Topic(t)
	k := brokertest.Kind{Source: src}
	w := k.Watch(t, b)
	must(t, s, "XADD", b.Topic, "*", "value", "0")
	w.Wait(1)
	must(t, s, "DEL", b.Topic)
	databasetest.Until(t, "it is said", func() bool { return lambent.Is(w.Failure(), lambent.Stale) })
}

// What is deleted of the stream before it is handed over again is gone, and nothing else.
func TestDeleted(t *testing.T) {
	s := brokertest.Redis.Shared(t)
	b := s.Topic(t)
	k := brokertest.Kind{Source: src}
	w := k.Prepare(t, b)
	group, _ := broker.GroupOf(&w.Trigger)
	var first string
	for i := range 3 {
		id, err := client.String(s.Do("XADD", b.Topic, "*", "value", fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = id
		}
	}
	must(t, s, "XREADGROUP", "GROUP", group, w.Trigger.ID, "COUNT", 2, "STREAMS", b.Topic, ">")
	must(t, s, "XDEL", b.Topic, first)
	w.Run()
	if events := w.Wait(2); brokertest.Value(&events[0]) != "1" || brokertest.Value(&events[1]) != "2" {
		t.Errorf("%s, %s", events[0].Data, events[1].Data)
	}
}

// Whoever says that much will come as there is no room for is not believed.
func TestHostile(t *testing.T) {
	for _, says := range []string{"$4000000000\r\n", "*4000000000\r\n", "$99999999999999999999\r\n", strings.Repeat("*1\r\n", 20_000), strings.Repeat("*100000\r\n", 9_000), "+" + strings.Repeat("x", 100_000)} {
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
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = src.Check(brokertest.NewTrigger(lambent.Broker{URL: "redis://" + l.Addr().String(), Topic: "a"}))
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; made > 100<<20 {
			t.Errorf("%.20q: %d MB were made room for", says, made>>20)
		}
		if err == nil || !strings.Contains(err.Error(), "over the limit") {
			t.Errorf("%.20q: %v", says, err)
		}
	}
}

// With rediss:// there is TLS, with a certificate that is looked at.
func TestTLS(t *testing.T) {
	brokertest.Redis.Shared(t) // there is one
	pair := brokertest.NewPair(t)
	s, err := databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		return databasetest.Command(dir, "redis-server", "--port", "0", "--tls-port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "",
			"--tls-cert-file", pair.CertificateFile, "--tls-key-file", pair.KeyFile, "--tls-ca-cert-file", pair.CertificateFile, "--tls-auth-clients", "no")
	}, func(ctx context.Context, port int) error {
		c, err := client.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), client.DialUseTLS(true))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Do("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", s.Port)
	if err := src.Check(brokertest.NewTrigger(lambent.Broker{URL: "rediss://" + at, Topic: "s"})); err != nil {
		t.Error(err)
	}
	for _, url := range []string{"redis://" + at, fmt.Sprintf("rediss://localhost:%d", s.Port)} {
		if err := src.Check(brokertest.NewTrigger(lambent.Broker{URL: url, Topic: "s"})); !lambent.Is(err, lambent.Unavailable) {
			t.Errorf("%s: %v", url, err)
		}
	}
	c, err := client.Dial("tcp", at, client.DialUseTLS(true))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do("CONFIG", "SET", "tls-auth-clients", "yes"); err != nil {
		t.Fatal(err)
	}
	brokertest.TestTLS(t, src, lambent.Broker{URL: "rediss://" + at, Topic: "s"}, pair)
}
