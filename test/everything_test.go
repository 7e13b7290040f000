package test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/client"
	"lambent/source/brokertest"
	"lambent/source/databasetest"
	"lambent/test/daemon"
	"lambent/test/workload"
)

// Over any number of kill -9, of the server, of a database and a broker or of all, while work
// of every kind comes in, all that was acknowledged reaches its function, in order where there is
// one, and what comes twice comes under one id. LAMBENT_TEST_KILLS=100 for longer.
func TestEverythingKillNine(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	if n, err := strconv.Atoi(os.Getenv("LAMBENT_TEST_KILLS")); err == nil {
		rounds = n
	}
	databases := []databasetest.Server{databasetest.NewPostgres(t), databasetest.MariaDB.New(t)}
	names := make([]string, len(databases))
	for i, database := range databases {
		names[i] = database.Database(t, "CREATE TABLE work (id text)") // without a key, all in order
	}
	brokers := startBrokers(t)
	kinds := slices.Collect(maps.Keys(brokers))
	program := filepath.Join(t.TempDir(), "recorder")
	build := exec.Command("go", "build", "-o", program, "lambent/test/workload/recorder")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}

	var diary workload.Diary
	recorder := httptest.NewServer(workload.Recorder(diary.Know))
	t.Cleanup(recorder.Close)
	data := filepath.Join(daemon.Dir(t), "data")
	begin := func() (*daemon.Daemon, *workload.Load) {
		t.Helper()
		d := daemon.Start(t, data, "--driver", "process") // the function is to reach the recorder
		l, err := workload.New(t.Context(), d.Client, program, recorder.URL, diary.Know)
		if err != nil {
			t.Fatal(err)
		}
		return d, l
	}
	d, l := begin()
	for i, database := range databases {
		if _, err := d.AddTrigger(t.Context(), client.TriggerRequest{Function: workload.Function, SourceRequest: client.SourceRequest{
			Database: &client.Database{URL: database.URL(names[i]), Tables: []string{"work"}, Operations: []string{"insert"}},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range brokers {
		if _, err := d.AddTrigger(t.Context(), client.TriggerRequest{Function: workload.Function, SourceRequest: client.SourceRequest{
			Broker: &client.Broker{URL: b.topic.URL, Topic: b.topic.Topic},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	var change [workload.Workers]*databasetest.Conn
	outside := map[workload.Kind]func(context.Context, workload.ID) error{workload.Row: func(ctx context.Context, id workload.ID) error {
		conn, i := &change[id.Worker], id.Worker%len(databases) // each worker has a database
		if *conn == nil {
			c, err := databases[i].Dial(ctx, names[i])
			if err != nil {
				return err
			}
			*conn = c
		}
		// Whoever waits for a commit and is told to wait no more does not know of it.
		err := (*conn).Exec("INSERT INTO work VALUES ('" + id.String() + "')")
		if err != nil {
			(*conn).Close() // it is broken
			*conn = nil
		}
		return err
	}}
	for kind, b := range brokers {
		outside[kind] = func(_ context.Context, id workload.ID) error {
			return b.Send(b.topic, brokertest.Message{Key: strconv.Itoa(id.Worker), Value: id.String()})
		}
	}
	for round := range rounds {
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { l.Run(ctx, round, outside) })
		time.Sleep(time.Duration(50+rand.IntN(500)) * time.Millisecond) // the moment is any moment
		both := rand.IntN(4) == 0
		outsiders := []databasetest.Process{databases[rand.IntN(len(databases))], brokers[kinds[rand.IntN(len(kinds))]]}
		if both || round%3 == 1 {
			for _, p := range outsiders {
				p.Kill()
			}
		}
		if both || round%3 != 1 {
			d.Kill()
		}
		stop()
		if both || round%3 == 1 { // who has sent something waits for an answer
			if err := startAll(outsiders...); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		if both || round%3 != 1 {
			noneLeft(t)
			d, l = begin()
		}
	}
	if err := l.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	for last, since := diary.Waiting(), time.Now(); last > 0 && time.Since(since) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		if n := diary.Waiting(); n < last {
			last, since = n, time.Now()
		}
	}
	t.Logf("%d kills; %v", rounds, &diary)
	for _, lost := range diary.Lost() {
		t.Error(lost)
	}
	if none := diary.Unseen(append(kinds, workload.Row)...); none != nil {
		t.Errorf("nothing was acknowledged of %v: the test saw too little", none)
	}
}

// A broker is one that work comes from.
type broker struct {
	brokertest.Server
	topic lambent.Broker
}

// startBrokers starts one of each kind.
func startBrokers(t *testing.T) map[workload.Kind]broker {
	t.Helper()
	servers := map[workload.Kind]brokertest.Server{
		workload.Kafka:    brokertest.Kafka.New(t),
		workload.MQTT:     brokertest.MQTT.New(t),
		workload.NATS:     brokertest.NATS.New(t),
		workload.RabbitMQ: brokertest.RabbitMQ.New(t),
		workload.Redis:    brokertest.Redis.New(t),
	}
	var all []databasetest.Process
	for _, s := range servers {
		all = append(all, s)
	}
	if err := startAll(all...); err != nil {
		t.Fatal(err)
	}
	brokers := map[workload.Kind]broker{}
	for kind, s := range servers {
		brokers[kind] = broker{s, s.Topic(t)}
	}
	return brokers
}

// startAll starts servers side by side.
func startAll(all ...databasetest.Process) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() { errs[i] = p.Start() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
