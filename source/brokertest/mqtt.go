package brokertest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"lambent"
	"lambent/source/databasetest"
)

// An MQTTServer is a mosquitto, with a user app whose password is "secret".
type MQTTServer struct{ databasetest.Daemon }

// MQTT is mosquitto.
var MQTT = program(func() string {
	return lacking(mosquitto() != "", "there is no mosquitto: apt-get install mosquitto")
}, newMQTT)

func mosquitto() string {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, "mosquitto")); err == nil {
			return filepath.Join(dir, "mosquitto")
		}
	}
	return ""
}

func newMQTT() (*MQTTServer, error) {
	s := &MQTTServer{}
	var err error
	s.Daemon, err = databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		write := func(name, content string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				panic(err)
			}
		}
		passwords := filepath.Join(dir, "passwords")
		if _, err := os.Stat(passwords); err != nil {
			write("passwords", "app:secret\n")
			if out, err := exec.Command("mosquitto_passwd", "-U", passwords).CombinedOutput(); err != nil {
				panic(fmt.Sprintf("%v: %s", err, out))
			}
			if err := os.Chmod(passwords, 0o644); err != nil {
				panic(err)
			}
		}
		write("mosquitto.conf", fmt.Sprintf("listener %d 127.0.0.1\npersistence true\npersistence_location %s/\npassword_file %s\nmax_queued_messages 0\n", port, dir, passwords))
		return databasetest.Command(dir, mosquitto(), "-c", filepath.Join(dir, "mosquitto.conf"))
	}, func(ctx context.Context, _ int) error {
		c, _, err := s.Connect(ctx, "", true)
		if err != nil {
			return err
		}
		return c.Disconnect(&paho.Disconnect{})
	})
	return s, err
}

// Connect begins a session, or goes on with one that there is.
func (s *MQTTServer) Connect(ctx context.Context, id string, clean bool) (c *paho.Client, present bool, err error) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
	if err != nil {
		return nil, false, err
	}
	c = paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), PacketTimeout: 5 * time.Second})
	ack, err := c.Connect(ctx, &paho.Connect{ClientID: id, CleanStart: clean, KeepAlive: 30, Username: "app", UsernameFlag: true, Password: []byte("secret"), PasswordFlag: true})
	if err != nil {
		return nil, false, err
	}
	return c, ack.SessionPresent, nil
}

// Kill implements Server. mosquitto writes its sessions down when it is asked to end, and
// only then.
func (s *MQTTServer) Kill() { s.Terminate() }

// Topic implements Server: it is a filter with a wildcard, and messages go to TOPIC/KEY.
func (s *MQTTServer) Topic(testing.TB) lambent.Broker {
	return lambent.Broker{URL: fmt.Sprintf("mqtt://app:secret@127.0.0.1:%d", s.Port), Topic: fmt.Sprintf("t%d/+", time.Now().UnixNano())}
}

// Publish has messages acknowledged.
func (s *MQTTServer) Publish(messages ...*paho.Publish) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, _, err := s.Connect(ctx, "", true)
	if err != nil {
		return err
	}
	for _, m := range messages {
		m.QoS = 1
		if _, err := c.Publish(ctx, m); err != nil {
			return err
		}
	}
	return c.Disconnect(&paho.Disconnect{})
}

// Send implements Server.
func (s *MQTTServer) Send(b lambent.Broker, messages ...Message) error {
	var all []*paho.Publish
	for _, m := range messages {
		all = append(all, &paho.Publish{Topic: strings.TrimSuffix(b.Topic, "+") + m.Key, Payload: []byte(m.Value)})
	}
	return s.Publish(all...)
}
