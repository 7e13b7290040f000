package brokertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
	"lambent/source/databasetest"
)

// A NATSServer has JetStream, and the users app, who may do everything, and nobody, who may
// do nothing; their password is "secret".
type NATSServer struct{ databasetest.Daemon }

// NATS is a module, which the tests' own program runs: they are to have Main.
var NATS = program(func() string { return "" }, newNATS)

const natsEnv = "BROKERTEST_NATS" // PORT DIRECTORY

// beNATS is the server, in a process that can be killed.
func beNATS() error {
	port, dir, _ := strings.Cut(os.Getenv(natsEnv), " ")
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	may := &server.SubjectPermission{Allow: []string{"_INBOX.>"}}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: n, JetStream: true, StoreDir: dir, NoSigs: true, MaxPayload: 8 << 20,
		Users: []*server.User{{Username: "app", Password: "secret"}, {Username: "nobody", Password: "secret", Permissions: &server.Permissions{Publish: may, Subscribe: may}}},
	})
	if err != nil {
		return err
	}
	s.Start()
	s.WaitForShutdown()
	return nil
}

func newNATS() (*NATSServer, error) {
	s := &NATSServer{}
	var err error
	s.Daemon, err = databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		cmd := databasetest.Command(dir, os.Args[0])
		if cmd.SysProcAttr != nil {
			cmd.SysProcAttr.Credential = nil // where the tests' program lies others may not look
		}
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d %s", natsEnv, port, dir))
		return cmd
	}, func(context.Context, int) error {
		return s.Ask(func(ctx context.Context, js jetstream.JetStream) error {
			_, err := js.AccountInfo(ctx)
			return err
		})
	})
	return s, err
}

// Ask does something with JetStream, within a few seconds.
func (s *NATSServer) Ask(do func(context.Context, jetstream.JetStream) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", s.Port), nats.UserInfo("app", "secret"), nats.NoReconnect())
	if err != nil {
		return err
	}
	defer c.Close()
	js, err := jetstream.New(c)
	if err != nil {
		return err
	}
	return do(ctx, js)
}

// Topic implements Server: it is a subject with a wildcard of a stream of its own, and
// messages go to SUBJECT.KEY.
func (s *NATSServer) Topic(t testing.TB) lambent.Broker {
	t.Helper()
	name := fmt.Sprint("s", time.Now().UnixNano())
	err := s.Ask(func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lambent.Broker{URL: fmt.Sprintf("nats://app:secret@127.0.0.1:%d", s.Port), Topic: name + ".>"}
}

// Send implements Server.
func (s *NATSServer) Send(b lambent.Broker, messages ...Message) error {
	return s.Ask(func(ctx context.Context, js jetstream.JetStream) error {
		for _, m := range messages {
			if _, err := js.Publish(ctx, strings.TrimSuffix(b.Topic, ">")+m.Key, []byte(m.Value)); err != nil {
				return err
			}
		}
		return nil
	})
}
