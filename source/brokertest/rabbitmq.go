package brokertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"lambent"
	"lambent/source/databasetest"
)

// A RabbitMQServer has a user app with the password "secret", and a daemon of Erlang's names
// of its own beside it.
type RabbitMQServer struct {
	databasetest.Daemon
	names    databasetest.Daemon
	dir      string
	declared time.Time // the last queue
}

const rabbitPrograms = "/usr/lib/rabbitmq/bin/"

// RabbitMQ is what Debian has.
var RabbitMQ = program(func() string {
	_, err := os.Stat(rabbitPrograms + "rabbitmq-server")
	return lacking(err == nil, "there is no RabbitMQ: apt-get install rabbitmq-server")
}, newRabbitMQ)

func newRabbitMQ() (*RabbitMQServer, error) {
	distribution, err := databasetest.FreePort()
	if err != nil {
		return nil, err
	}
	s := &RabbitMQServer{}
	s.names, err = databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		return databasetest.Command(dir, "epmd", "-port", fmt.Sprint(port), "-address", "127.0.0.1")
	}, func(ctx context.Context, port int) error {
		return exec.CommandContext(ctx, "epmd", "-port", fmt.Sprint(port), "-names").Run()
	})
	if err != nil {
		return nil, err
	}
	s.Daemon, err = databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		for name, content := range map[string]string{
			"rabbit.conf": "default_user = app\ndefault_pass = secret\nloopback_users = none\nmax_message_size = 8000000\n",
			"plugins":     "[].\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				panic(err)
			}
		}
		s.dir = dir
		cmd := s.command("rabbitmq-server")
		cmd.Env = append(cmd.Env, fmt.Sprintf("RABBITMQ_NODE_PORT=%d", port), fmt.Sprintf("RABBITMQ_DIST_PORT=%d", distribution),
			"RUNNING_UNDER_SYSTEMD=true") // it is the process itself, and no shell around it
		return cmd
	}, func(context.Context, int) error {
		c, err := s.Dial()
		if err != nil {
			return err
		}
		return c.Close()
	})
	return s, err
}

// command is one of RabbitMQ's programs, which know of this server.
func (s *RabbitMQServer) command(program string, args ...string) *exec.Cmd {
	cmd := databasetest.Command(s.dir, rabbitPrograms+program, args...)
	cmd.Env = append(cmd.Env,
		fmt.Sprintf("ERL_EPMD_PORT=%d", s.names.Port), "ERL_EPMD_ADDRESS=127.0.0.1", fmt.Sprintf("RABBITMQ_NODENAME=test%d@localhost", s.names.Port), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE="+s.dir+"/data", "RABBITMQ_LOG_BASE="+s.dir+"/log", "RABBITMQ_ENABLED_PLUGINS_FILE="+s.dir+"/plugins", "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE="+s.dir+"/rabbit.conf", "RABBITMQ_PID_FILE="+s.dir+"/pid")
	return cmd
}

// Start implements Server.
func (s *RabbitMQServer) Start() error {
	if err := s.names.Start(); err != nil {
		return err
	}
	return s.Daemon.Start()
}

// unwritten is for how long RabbitMQ may have only in memory that there is a queue.
const unwritten = 4 * time.Second

// Kill implements Server, once all queues are on disk.
func (s *RabbitMQServer) Kill() {
	time.Sleep(time.Until(s.declared.Add(unwritten))) // there is no asking
	s.Daemon.Kill()
	s.names.Kill()
}

// Control runs rabbitmqctl.
func (s *RabbitMQServer) Control(t testing.TB, args ...string) {
	t.Helper()
	if out, err := s.command("rabbitmqctl", args...).CombinedOutput(); err != nil {
		t.Fatalf("rabbitmqctl %v: %v\n%s", args, err, out)
	}
}

// Dial connects.
func (s *RabbitMQServer) Dial() (*amqp091.Connection, error) {
	return amqp091.Dial(fmt.Sprintf("amqp://app:secret@127.0.0.1:%d/", s.Port))
}

// Queue makes one, as a trigger has it.
func (s *RabbitMQServer) Queue(t testing.TB, args amqp091.Table) lambent.Broker {
	t.Helper()
	c, err := s.Dial()
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
	s.declared = time.Now()
	return lambent.Broker{URL: fmt.Sprintf("amqp://app:secret@127.0.0.1:%d", s.Port), Topic: name}
}

// Topic implements Server: it is a queue.
func (s *RabbitMQServer) Topic(t testing.TB) lambent.Broker { return s.Queue(t, nil) }

// Publish has messages acknowledged.
func (s *RabbitMQServer) Publish(queue string, messages ...amqp091.Publishing) error {
	c, err := s.Dial()
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

// Send implements Server: each message has a name of its own.
func (s *RabbitMQServer) Send(b lambent.Broker, messages ...Message) error {
	var all []amqp091.Publishing
	for _, m := range messages {
		all = append(all, amqp091.Publishing{Body: []byte(m.Value), MessageId: lambent.NewID()})
	}
	return s.Publish(b.Topic, all...)
}
