package detect_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/internal/detect"
)

func TestParseFile(t *testing.T) {
	got, err := detect.ParseFile([]byte(`
name = "thumbs"          # a comment
runtime = "python3.11"
handler = "app.handler"
memory = 256
timeout = "30s"
env = { LOG_LEVEL = "info" }
secrets = ["API_KEY"]
concurrency = 4
min = 1
max = 10
reserved = 40
keep_alive = "10m"
url = "token"
stream = true
network = ["db.internal:5432"]
attempts = 5
backoff = "10s"
backoff_factor = 1.5
max_age = "1h"
on_success = "events"
on_failure = "function:audit:live"
[[on]]
http = "GET /thumbs/{id}"
[[on]]
http = "/all"
[[on]]
schedule = "rate(5 minutes)"
[[on]]
schedule = "0 10 * * *"
zone = "Europe/Berlin"
jitter = "90s"
skip_missed = true
[[on]]
pattern = '{"source":["shop"]}'
[[on]]
bucket = "uploads"
prefix = "photos/"
suffix = ".jpg"
events = ["s3:ObjectCreated:*"]
[[on]]
queue = "jobs"
batch_size = 5
batch_window = "1s"
parallel = 2
[[on]]
database = "$DB"
table = "orders"
snapshot = true
shape = "dynamodb"
[[on]]
broker = "$KAFKA"
topic = "orders"
group = "billing"
from = "earliest"
parallel = 3
`))
	keep, reserved := 10*time.Minute, 40
	want := []detect.Settings{{
		Name: "thumbs", Runtime: "python3.11", Handler: "app.handler", MemoryMB: 256, Timeout: 30 * time.Second,
		Env: map[string]string{"LOG_LEVEL": "info"}, Secrets: []string{"API_KEY"}, Concurrency: 4, Min: 1, Max: 10, Reserved: &reserved,
		KeepAlive: &keep, URL: lambent.URLToken, Stream: true, Network: []string{"db.internal:5432"},
		Attempts: 5, Backoff: 10 * time.Second, Factor: 1.5, MaxAge: time.Hour, OnSuccess: "events", OnFailure: "function:audit:live",
		Routes: []detect.Route{{"GET", "/thumbs/{id}"}, {"", "/all"}},
		On: []detect.On{
			{Schedule: "rate(5 minutes)"}, {Schedule: "0 10 * * *", Zone: "Europe/Berlin", Jitter: 90 * time.Second, SkipMissed: true},
			{Pattern: `{"source":["shop"]}`},
			{Bucket: "uploads", Prefix: "photos/", Suffix: ".jpg", Events: []string{"s3:ObjectCreated:*"}},
			{Queue: "jobs", BatchSize: 5, BatchWindow: time.Second, Parallel: 2},
			{Database: "$DB", Table: detect.Names{"orders"}, Snapshot: true, Shape: "dynamodb"},
			{Broker: "$KAFKA", Topic: "orders", Group: "billing", From: "earliest", Parallel: 3},
		},
	}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestSeveralFunctions(t *testing.T) {
	got, err := detect.ParseFile([]byte(`
runtime = "nodejs"
keep_alive = "1m"
secrets = ["A"]
[env]
A = "1"
[functions.write]
handler = "index.write"
keep_alive = "2m"
secrets = ["B"]
env = { A = "2", B = "3" }
[functions.read]
handler = "index.read"
[[functions.read.on]]
http = "GET /"
`))
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	read, write := got[0], got[1]
	if read.Name != "read" || read.Handler != "index.read" || read.Runtime != "nodejs" || *read.KeepAlive != time.Minute ||
		read.Secrets[0] != "A" || len(read.Env) != 1 || len(read.Routes) != 1 {
		t.Errorf("read = %+v", read)
	}
	if write.Name != "write" || *write.KeepAlive != 2*time.Minute || write.Secrets[0] != "B" || write.Env["A"] != "2" || write.Env["B"] != "3" || len(write.Routes) != 0 {
		t.Errorf("write = %+v", write)
	}
}

func TestParseFileRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		kind  lambent.Kind
		words string
	}{
		"syntax":              {"name = \"a\"\nmemory = = 1\n", lambent.Invalid, "lambent.toml line 2: "},
		"twice":               {"memory = 1\nmemory = 2\n", lambent.Invalid, "line 2"},
		"unknown":             {"name = \"a\"\n\nmemry = 1\n", lambent.Invalid, `lambent.toml line 3: memry is not a key of lambent.toml: did you mean "memory"?`},
		"unknown, far":        {"colour = 1\n", lambent.Invalid, "line 1: colour is not a key of lambent.toml, which has attempts, backoff, "},
		"case":                {"Memory = 1\n", lambent.Invalid, `did you mean "memory"?`},
		"unknown table":       {"memory = 128\n[function.a]\n", lambent.Invalid, `line 2: function is not a key of lambent.toml: did you mean "functions"?`},
		"wrong type":          {"# x\nmemory = \"128\"\n", lambent.Invalid, "line 2: memory must be a number of megabytes, such as 128"},
		"float":               {"memory = 1.5\n", lambent.Invalid, "line 1: memory must be a number"},
		"bare duration":       {"timeout = 30\n", lambent.Invalid, `line 1: timeout must be a duration in quotes, such as "30s"`},
		"bad duration":        {"timeout = \"30 s\"\n", lambent.Invalid, "line 1: timeout must be a duration"},
		"env number":          {"[env]\nPORT = 80\n", lambent.Invalid, "line 1: env must be a table of strings"},
		"list of numbers":     {"secrets = [1]\n", lambent.Invalid, "line 1: secrets must be a list"},
		"huge":                {"memory = 99999999999999999999\n", lambent.Invalid, "line 1"},
		"name":                {"name = \"a/b\"\n", lambent.Invalid, `line 1: name is "a/b"`},
		"url":                 {"url = \"all\"\n", lambent.Invalid, "line 1: url"},
		"url iam":             {"url = \"iam\"\n", lambent.Unsupported, "line 1: url"},
		"bucket":              {"[[on]]\nhttp = \"/\"\n[[on]]\nbucket = \"b\"\n", lambent.Invalid, `line 4: on.bucket is refused: "b" is not the name of a bucket`},
		"bucket, events":      {"[[on]]\nbucket = \"uploads\"\nevents = [\"s3:ObjectEaten:*\"]\n", lambent.Invalid, `line 2: on.bucket is refused: "s3:ObjectEaten:*" is no event of buckets`},
		"schedule, and":       {"[[on]]\nschedule = \"@daily\"\nsuffix = \"x\"\n", lambent.Invalid, "line 3: on.suffix does not go with schedule: it is for bucket"},
		"bad pattern":         {"[[on]]\npattern = '{\"source\":\"shop\"}'\n", lambent.Invalid, `line 2: on.pattern is refused: the pattern, line 1, column 11: field "source": its values stand in a list`},
		"pattern, and":        {"[[on]]\npattern = '{\"source\":[\"shop\"]}'\nsuffix = \"x\"\n", lambent.Invalid, "line 3: on.suffix does not go with pattern: it is for bucket"},
		"on_success":          {"on_success = \"audit\"\n", lambent.Invalid, `line 1: on_success must be "function:NAME", "queue:NAME", "events" or the URL of a webhook`},
		"schedule, nothing":   {"[[on]]\nschedule = \"\"\n", lambent.Invalid, "line 2: on.schedule must be a schedule in quotes"},
		"batch of a schedule": {"[[on]]\nschedule = \"@daily\"\nbatch_size = 2\n", lambent.Invalid, "line 3: on.batch_size does not go with schedule: it is for database and queue and broker"},
		"zone alone":          {"[[on]]\nzone = \"UTC\"\n", lambent.Invalid, "line 1: on names no trigger"},
		"attempts":            {"attempts = \"x\"\n", lambent.Invalid, "line 1: attempts must be a number"},
		"backoff_factor":      {"backoff_factor = \"2\"\n", lambent.Invalid, "line 1: backoff_factor must be a number from 1"},
		"on, unknown":         {"[[on]]\nhttp = \"/\"\n[[on]]\n# x\nhtpp = \"/\"\n", lambent.Invalid, `line 5: on.htpp is not a key of an [[on]] table: did you mean "http"?`},
		"on, type":            {"[[on]]\nhttp = 1\n", lambent.Invalid, "line 2: on.http must be a method and a path in quotes"},
		"on, empty":           {"[[on]]\n", lambent.Invalid, "line 1: on names no trigger"},
		"on, two":             {"[[on]]\nhttp = \"/\"\nbucket = \"b\"\n", lambent.Invalid, "line 2: on.http is one trigger of several"},
		"on, pattern":         {"[[on]]\nhttp = \"get /\"\n", lambent.Invalid, "line 2: on.http is"},
		"on, no path":         {"[[on]]\nhttp = \"GET x\"\n", lambent.Invalid, "line 2: on.http is"},
		"on, not an array":    {"[on]\nhttp = \"/\"\n", lambent.Invalid, "line 1: on must be a table that starts with [[on]]"},
		"functions, name":     {"name = \"a\"\n[functions.b]\nhandler = \"x.y\"\n", lambent.Invalid, "line 1: name stands above"},
		"functions, key":      {"[functions.b]\nhandel = \"x.y\"\n", lambent.Invalid, `line 2: functions.b.handel is not a key of lambent.toml: did you mean "handler"?`},
		"functions, bad":      {"functions = 1\n", lambent.Invalid, "line 1: functions must be tables"},
		"functions, scalar":   {"[functions]\nb = 1\n", lambent.Invalid, "line 2: functions.b must be a table"},
		"broker, no topic":    {"[[on]]\nbroker = \"kafka://host\"\n", lambent.Invalid, "line 2: on.broker needs a topic"},
		"ca of a queue":       {"[[on]]\nqueue = \"jobs\"\nca = \"$CA\"\n", lambent.Invalid, "line 3: on.ca does not go with queue: it is for database and broker"},
		"database, a file":    {"[[on]]\ndatabase = \"postgres://app@db/shop?sslrootcert=ca.pem\"\ntable = \"orders\"\n", lambent.Invalid, "line 2: on.database is refused: the database's URL has sslrootcert, which names a file"},
		"broker, kind":        {"[[on]]\nbroker = \"stomp://host\"\ntopic = \"a\"\n", lambent.Unsupported, "there are nats://, kafka://"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := detect.ParseFile([]byte(c.text))
			if !lambent.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %+v, %v; want %v with %q", got, err, c.kind, c.words)
			}
		})
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add("name = \"a\"\n[[on]]\nhttp = \"GET /\"\n[functions.x]\nenv = { A = \"1\" }\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := detect.ParseFile([]byte(text))
		if err == nil && len(got) == 0 {
			t.Error("neither a function nor an error")
		}
		if err != nil && lambent.KindOf(err) == lambent.Internal {
			t.Errorf("the file's fault is called the platform's: %v", err)
		}
	})
}
