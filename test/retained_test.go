package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lambent/client"
	"lambent/source/databasetest"
	"lambent/test/daemon"
)

// What a database keeps of its log for a trigger is told where an operator looks: in the list
// of triggers, in the metrics, and in the server's log.
func TestRetainedLog(t *testing.T) {
	pg := databasetest.NewPostgres(t)
	db := pg.Database(t, "CREATE TABLE orders (id int PRIMARY KEY)", "CREATE TABLE other (v text)")
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"), "--driver", "process", "--warn-log", "4")
	if _, err := d.Deploy(t.Context(), "f", python(upload(t, d, "app.py", "def handler(event, context): pass\n"), 0), nil); err != nil {
		t.Fatal(err)
	}
	tr, err := d.AddTrigger(t.Context(), client.TriggerRequest{Function: "f", SourceRequest: client.SourceRequest{
		Database: &client.Database{URL: pg.URL(db), Tables: []string{"orders"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	open := pg.Session(t, db)
	open("BEGIN")
	open("INSERT INTO orders VALUES (1)")
	pg.Exec(t, db, "INSERT INTO other SELECT repeat('x', 100) FROM generate_series(1, 50000)", "CHECKPOINT")
	list := func() string {
		c := exec.CommandContext(t.Context(), daemon.Program(t), "trigger", "list", "f")
		c.Env = append(c.Environ(), "LAMBENT_URL="+d.URL, "LAMBENT_TOKEN="+d.Token)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	databasetest.Until(t, "trigger list warns", func() bool { return strings.Contains(list(), "PostgreSQL keeps ") })
	if n := d.Metric(t, `lambent_trigger_retained_bytes{function="f",project="default",trigger="`+tr.ID+`"}`); n <= 4<<20 {
		t.Errorf("the metric is %v", n)
	}
	d.Signal(syscall.SIGTERM)
	if _, said := d.Wait(t); !strings.Contains(said, "a trigger's database is to be looked after") || !strings.Contains(said, "PostgreSQL keeps ") {
		t.Errorf("the server says %s", said)
	}
}
