package brokertest

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"lambent"
	"lambent/source/databasetest"
)

// A RedisServer has a default user with the password "secret", and an entry on disk before it
// acknowledges it.
type RedisServer struct{ databasetest.Daemon }

// Redis is what Debian has.
var Redis = program(func() string {
	_, err := exec.LookPath("redis-server")
	return lacking(err == nil, "there is no Redis: apt-get install redis-server")
}, newRedis)

func newRedis() (*RedisServer, error) {
	s := &RedisServer{}
	var err error
	s.Daemon, err = databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		return databasetest.Command(dir, "redis-server", "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", dir, "--requirepass", "secret",
			"--appendonly", "yes", "--appendfsync", "always", "--save", "")
	}, func(context.Context, int) error {
		_, err := s.Do("PING")
		return err
	})
	return s, err
}

// Do asks for something, on a connection of its own.
func (s *RedisServer) Do(command string, args ...any) (any, error) {
	c, err := redis.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port), redis.DialPassword("secret"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(command, args...)
}

// Topic implements Server: it is an empty stream.
func (s *RedisServer) Topic(t testing.TB) lambent.Broker {
	t.Helper()
	name := fmt.Sprint("s", time.Now().UnixNano())
	for _, args := range [][]any{{"CREATE", name, "made", "$", "MKSTREAM"}, {"DESTROY", name, "made"}} {
		if _, err := s.Do("XGROUP", args...); err != nil {
			t.Fatal(err)
		}
	}
	return lambent.Broker{URL: fmt.Sprintf("redis://:secret@127.0.0.1:%d/0", s.Port), Topic: name}
}

// Send implements Server.
func (s *RedisServer) Send(b lambent.Broker, messages ...Message) error {
	for _, m := range messages {
		if _, err := s.Do("XADD", b.Topic, "*", "key", m.Key, "value", m.Value); err != nil {
			return err
		}
	}
	return nil
}
