package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"

	"lambent/client"
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
	broker := redisServer(t)
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
	if _, err := d.AddTrigger(t.Context(), client.TriggerRequest{Function: workload.Function, SourceRequest: client.SourceRequest{
		Broker: &client.Broker{URL: fmt.Sprintf("redis://127.0.0.1:%d", broker.Port), Topic: stream},
	}}); err != nil {
		t.Fatal(err)
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
	}, workload.Entry: func(_ context.Context, id workload.ID) error {
		return ask(broker.Port, "XADD", stream, "*", "id", id.String())
	}}
	for round := range rounds {
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		wg.Go(func() { l.Run(ctx, round, outside) })
		time.Sleep(time.Duration(50+rand.IntN(500)) * time.Millisecond) // the moment is any moment
		both := rand.IntN(4) == 0
		database := databases[rand.IntN(len(databases))]
		if both || round%3 == 1 {
			database.Kill()
			broker.Kill()
		}
		if both || round%3 != 1 {
			d.Kill()
		}
		stop()
		wg.Wait()
		if both || round%3 == 1 {
			if err := errors.Join(database.Start(), broker.Start()); err != nil {
				t.Fatal(err)
			}
		}
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
	if none := diary.Unseen(workload.Row, workload.Entry); none != nil {
		t.Errorf("nothing was acknowledged of %v: the test saw too little", none)
	}
}

// stream is one of Redis's.
const stream = "work"

// redisServer is a Redis with an empty stream, which acknowledges what is on disk.
func redisServer(t *testing.T) databasetest.Daemon {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		databasetest.Missing(t, "there is no Redis: apt-get install redis-server")
	}
	d, err := databasetest.NewDaemon(func(dir string, port int) *exec.Cmd {
		return databasetest.Command(dir, "redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--appendfsync", "always", "--save", "")
	}, func(_ context.Context, port int) error { return ask(port, "PING") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	if err := ask(d.Port, "XGROUP", "CREATE", stream, "first", "$", "MKSTREAM"); err != nil {
		t.Fatal(err)
	}
	return d
}

// ask has Redis do something.
func ask(port int, command string, args ...any) error {
	c, err := redis.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Do(command, args...)
	return err
}
