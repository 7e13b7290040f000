package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent/client"
	"lambent/internal/sigv4"
	"lambent/server"
	"lambent/server/servertest"
)

// onEndpoint calls f on a server with each driver, beside each other: as they are, and the one that isolates also with a network that leads nowhere.
func onEndpoint(t *testing.T, f func(t *testing.T, s *servertest.Server, network []string)) {
	for _, c := range []struct {
		name, driver string
		network      []string
	}{{"namespace", "namespace", nil}, {"namespace, no network", "namespace", []string{"none"}}, {"process", "process", nil}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.driver == "namespace" && os.Geteuid() != 0 {
				servertest.Missing(t, "the driver namespace needs Linux and root")
			}
			f(t, servertest.Start(t, func(cfg *server.Config) { cfg.Driver = c.driver }), c.network)
		})
	}
}

// clientsOf are AWS's clients for a language, as code has them beside it, with the files of
// the services that tests use.
func clientsOf(t *testing.T, which string) servertest.Files {
	t.Helper()
	found, _ := filepath.Glob("../.venv/" + which + "-[0-9]*[0-9]")
	if len(found) == 0 {
		servertest.Missing(t, "AWS's clients: tools/setup.sh test installs them")
	}
	files := servertest.Files{}
	root := os.DirFS(found[len(found)-1])
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		parts := strings.Split(path, "/")
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if len(parts) == 1 && path != "." && !strings.Contains(" boto3 botocore dateutil jmespath s3transfer urllib3 node_modules ", " "+path+" ") ||
				len(parts) == 3 && parts[1] == "data" && !strings.Contains(" s3 sqs events lambda ", " "+parts[2]+" ") ||
				d.Name() == "__pycache__" || d.Name() == "dist-types" || d.Name() == "dist-es" || d.Name() == ".bin" {
				return fs.SkipDir
			}
			return nil
		case len(parts) == 1 && path != "six.py":
			return nil
		}
		b, err := fs.ReadFile(root, path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// runs is a function that runs what it is given, and answers with what that has put out.
const runs = `
import boto3, json, os, urllib.error, urllib.request
from botocore.exceptions import ClientError

s3, sqs, events, functions = (boto3.client(name) for name in ("s3", "sqs", "events", "lambda"))

def fails(f, **args):
    try:
        return f(**args)
    except ClientError as e:
        return e.response["Error"]["Code"] + ": " + e.response["Error"]["Message"]

def get(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read().decode()
    except urllib.error.HTTPError as e:
        return str(e.code) + " " + e.read().decode()

def handler(event, context):
    scope = {**globals(), "event": event}
    exec(event["code"], scope)
    return scope["out"]
`

// deployRuns deploys a function of runs to a project.
func deployRuns(t *testing.T, s *servertest.Server, project, name string, change ...func(*client.DeployRequest)) *servertest.Server {
	t.Helper()
	in, c := *s, *s.Client
	c.Project, in.Client = project, &c
	files := clientsOf(t, "aws-clients")
	files["app.py"] = runs
	r := client.DeployRequest{Runtime: new(s.Newest(t, "python")), Handler: new("app.handler"), MemoryMB: new(512), TimeoutMS: new(int64(30_000))}
	for _, change := range change {
		change(&r)
	}
	if _, err := in.Deploy(t.Context(), t, name, files, r); err != nil {
		t.Fatal(err)
	}
	return &in
}

// run has a function of runs run code, and reads what that has put out.
func run[T any](t *testing.T, s *servertest.Server, name, code string) (out T) {
	t.Helper()
	payload, err := json.Marshal(map[string]string{"code": code})
	if err != nil {
		t.Fatal(err)
	}
	var answer strings.Builder
	o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: name, Payload: strings.NewReader(string(payload)), Length: -1, Log: true}, &answer)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(answer.String()), &out); o.Fault != "" || err != nil {
		t.Fatalf("%s: %s\n%s", o.Fault, answer.String(), o.LogTail)
	}
	return out
}

const everyService = `
s3.create_bucket(Bucket="state")
s3.put_object(Bucket="state", Key="a/b", Body=b"kept")
url = sqs.create_queue(QueueName="work")["QueueUrl"]
sqs.send_message(QueueUrl=url, MessageBody="to be done")
out = [
    s3.get_object(Bucket="state", Key="a/b")["Body"].read().decode(),
    get(s3.generate_presigned_url("get_object", Params={"Bucket": "state", "Key": "a/b"})),
    get(boto3.client("s3", config=boto3.session.Config(signature_version="s3v4")).generate_presigned_url("get_object", Params={"Bucket": "state", "Key": "a/b"})),
    sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"][0]["Body"],
    events.put_events(Entries=[{"Source": "shop", "DetailType": "order", "Detail": "{}"}])["FailedEntryCount"],
    json.load(functions.invoke(FunctionName="shop", Payload=json.dumps({"code": "out = 'called'"}))["Payload"]),
    functions.invoke(FunctionName="shop", InvocationType="Event", Payload=json.dumps({"code": "out = 1"}))["StatusCode"],
    fails(functions.invoke, FunctionName="nobody").split(":")[0],
]
`

// A function reaches its project's buckets, queues, events and functions by AWS's clients, with nothing configured.
func TestEndpoint(t *testing.T) {
	onEndpoint(t, func(t *testing.T, s *servertest.Server, network []string) {
		shop := deployRuns(t, s, "default", "shop", func(r *client.DeployRequest) { r.Network = network })
		if got, want := fmt.Sprint(run[[]any](t, shop, "shop", everyService)), "[kept kept kept to be done 0 called 202 ResourceNotFoundException]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if list, err := s.Client.Events(t.Context(), client.ReplayRequest{}, 10); err != nil || len(list) != 1 {
			t.Errorf("events: %+v, %v", list, err)
		}

		files := clientsOf(t, "aws-clients-node")
		files["app.mjs"] = inNode
		_, err := s.Deploy(t.Context(), t, "node", files, client.DeployRequest{
			Runtime: new(s.Newest(t, "nodejs")), Handler: new("app.handler"), MemoryMB: new(512), TimeoutMS: new(int64(30_000)), Network: network,
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := run[string](t, s, "node", ""); got != "kept to be done 0" {
			t.Errorf("Node.js: got %s", got)
		}
	})
}

const inNode = `
import { S3Client, PutObjectCommand, GetObjectCommand } from "@aws-sdk/client-s3";
import { SQSClient, GetQueueUrlCommand, SendMessageCommand, ReceiveMessageCommand } from "@aws-sdk/client-sqs";
import { EventBridgeClient, PutEventsCommand } from "@aws-sdk/client-eventbridge";
const s3 = new S3Client(), sqs = new SQSClient(), events = new EventBridgeClient();
export async function handler() {
  await s3.send(new PutObjectCommand({ Bucket: "state", Key: "n", Body: "kept" }));
  const object = await s3.send(new GetObjectCommand({ Bucket: "state", Key: "n" }));
  const { QueueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: "work" }));
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "to be done" }));
  const { Messages } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 5 }));
  const put = await events.send(new PutEventsCommand({ Entries: [{ Source: "shop", DetailType: "order", Detail: "{}" }] }));
  return [await object.Body.transformToString(), Messages[0].Body, put.FailedEntryCount].join(" ");
}
`

// theKey is a function's, as the test has stolen it.
const theKey = `
out = {name: os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")}
`

// What a function may reach is its own project's, whatever it says and whatever it has heard of others.
func TestEndpointsAreApart(t *testing.T) {
	onEndpoint(t, func(t *testing.T, s *servertest.Server, network []string) {
		on := func(r *client.DeployRequest) { r.Network = network }
		shop, bank := deployRuns(t, s, "shop", "f", on), deployRuns(t, s, "bank", "f", on)
		presigned := run[string](t, shop, "f", `
s3.create_bucket(Bucket="shops")
s3.put_object(Bucket="shops", Key="k", Body=b"secret")
url = sqs.create_queue(QueueName="shops")["QueueUrl"]
out = s3.generate_presigned_url("get_object", Params={"Bucket": "shops", "Key": "k"})
`)
		_, path, _ := strings.Cut(strings.TrimPrefix(presigned, "http://"), "/")
		stolen := run[map[string]string](t, shop, "f", theKey)
		quoted, err := json.Marshal(stolen)
		if err != nil {
			t.Fatal(err)
		}
		asShop := fmt.Sprintf("\nkey = json.loads(%q)\n", quoted) +
			`other = boto3.client("s3", aws_access_key_id=key["AWS_ACCESS_KEY_ID"], aws_secret_access_key=key["AWS_SECRET_ACCESS_KEY"], aws_session_token=key["AWS_SESSION_TOKEN"])` + "\n"
		for name, c := range map[string]struct{ code, want string }{
			"a bucket":               {`out = fails(s3.get_object, Bucket="shops", Key="k")`, "NoSuchBucket"},
			"a bucket, to write":     {`out = fails(s3.put_object, Bucket="shops", Key="k", Body=b"x")`, "NoSuchBucket"},
			"a bucket, its own name": {`out = fails(s3.get_object, Bucket=s3.create_bucket(Bucket="shops")["Location"].strip("/"), Key="k"); s3.delete_bucket(Bucket="shops")`, "NoSuchKey"},
			"a copy":                 {`s3.create_bucket(Bucket="own"); out = fails(s3.copy_object, Bucket="own", Key="k", CopySource="shops/k")`, "NoSuchBucket"},
			"a queue":                {`out = fails(sqs.get_queue_url, QueueName="shops")`, "NonExistentQueue"},
			"its URL":                {`out = fails(sqs.receive_message, QueueUrl=os.environ["AWS_ENDPOINT_URL"] + "/` + account(t, shop) + `/shops")`, ""},
			"another's key":          {asShop + `out = fails(other.get_object, Bucket="shops", Key="k")`, "InvalidAccessKeyId"},
			"another's URL":          {`out = get(os.environ["AWS_ENDPOINT_URL"] + "/` + path + `")`, "InvalidAccessKeyId"},
			"no session token":       {`out = fails(boto3.client("s3", aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"]).list_buckets)`, "InvalidToken"},
			"no signature":           {`out = get(os.environ["AWS_ENDPOINT_URL"] + "/shops/k")`, "403 "},
			"our API":                {`out = get(os.environ["AWS_ENDPOINT_URL"] + "/v1/functions")`, "403 "},
			"a function":             {`out = get(os.environ["AWS_ENDPOINT_URL"] + "/fn/f/")`, "403 "},
			"health":                 {`out = get(os.environ["AWS_ENDPOINT_URL"] + "/healthz")`, "403 "},
			"a token": {`
r = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + "/v1/functions", headers={"Authorization": "Bearer ` + s.Token + `", "Host": "localhost"})
out = get(r)`, "403 "},
		} {
			if got := run[string](t, bank, "f", c.code); !strings.Contains(got, c.want) || strings.Contains(got, "secret") && !strings.Contains(got, "the secret is another") {
				t.Errorf("%s: %s, want %s", name, got, c.want)
			}
		}

		if ours := stolen["AWS_ENDPOINT_URL"]; strings.HasPrefix(ours, "http://169.254.") {
			open := run[[]int](t, shop, "f", `
import socket
out = []
for port in range(1, 1 << 16):
    with socket.socket() as s:
        if s.connect_ex(("169.254.100.1", port)) == 0 and s.getsockname() != s.getpeername():
            out.append(port)
`)
			if ours != "http://169.254.100.1:9002" || !slices.Equal(open, []int{53, 9002}) {
				t.Errorf("of the platform's address, the ports %v are open", open)
			}
		}

		// From outside nothing is known of it, while it is good inside.
		r := s.Request(t, "GET", "/shops/k", nil, "X-Amz-Security-Token", stolen["AWS_SESSION_TOKEN"])
		if err := sigv4.Sign(r, stolen["AWS_ACCESS_KEY_ID"], stolen["AWS_SECRET_ACCESS_KEY"], "us-east-1", "s3", sigv4.UnsignedPayload, time.Now()); err != nil {
			t.Fatal(err)
		}
		if a := servertest.Do(t, r); a.StatusCode != http.StatusForbidden || !strings.Contains(a.Body, "known in its sandbox alone") {
			t.Errorf("a stolen key on the port: status %d: %s", a.StatusCode, a.Body)
		}
		if a := s.Get(t, "/"+path); a.StatusCode != http.StatusForbidden {
			t.Errorf("a presigned URL on the port: status %d: %s", a.StatusCode, a.Body)
		}
		if got := run[string](t, shop, "f", `out = get("`+presigned+`")`); got != "secret" {
			t.Errorf("a presigned URL in its own sandbox: %s", got)
		}
		f, err := shop.Client.Function(t.Context(), "f")
		if b, e := json.Marshal(f); err != nil || e != nil || strings.Contains(string(b), stolen["AWS_SECRET_ACCESS_KEY"]) || strings.Contains(string(b), stolen["AWS_ACCESS_KEY_ID"]) {
			t.Errorf("the function is shown as %s, %v", b, err)
		}
	})
}

// account is the account of a server's project, as it is in the URLs of queues.
func account(t *testing.T, s *servertest.Server) string {
	t.Helper()
	url := run[string](t, s, "f", `out = sqs.get_queue_url(QueueName="shops")["QueueUrl"]`)
	parts := strings.Split(url, "/")
	return parts[len(parts)-2]
}

// A function that says itself who it is, or where AWS is, is mixed with nothing of ours.
func TestEndpointOfOnesOwn(t *testing.T) {
	onEndpoint(t, func(t *testing.T, s *servertest.Server, network []string) {
		shop := deployRuns(t, s, "default", "ours", func(r *client.DeployRequest) { r.Network = network })
		ours := run[map[string]string](t, shop, "ours", theKey)
		deployRuns(t, s, "default", "own", func(r *client.DeployRequest) { r.Network = network })
		for _, env := range []map[string]string{
			{"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}, {"AWS_ENDPOINT_URL": ""},
			{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "x"}, {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"},
		} {
			if _, err := s.Client.Deploy(t.Context(), "own", &client.DeployRequest{Env: env}, nil); err != nil {
				t.Fatal(err)
			}
			got := run[map[string]string](t, shop, "own", theKey)
			for name, value := range got {
				if value != env[name] {
					t.Errorf("with %v, %s is %q", env, name, value)
				}
			}
			if !strings.HasPrefix(ours["AWS_ENDPOINT_URL"], "http://169.254.") {
				continue // another sandbox has another
			}
			if got := run[string](t, shop, "own", `out = get("`+ours["AWS_ENDPOINT_URL"]+`/?X-Amz-Signature=x")`); !strings.Contains(got, "is not known here") {
				t.Errorf("the endpoint answers who says itself who it is: %s", got)
			}
		}
	})
}

// A function that does what it is invoked by is cut off, in each way, and that is said where its owner looks.
func TestLoops(t *testing.T) {
	for _, driver := range []string{"namespace", "process"} {
		t.Run(driver, func(t *testing.T) {
			if driver == "namespace" && os.Geteuid() != 0 {
				servertest.Missing(t, "the driver namespace needs Linux and root")
			}
			s := servertest.Start(t, func(cfg *server.Config) { cfg.Driver = driver })
			deployRuns(t, s, "default", "starts")
			run[any](t, s, "starts", `out = [s3.create_bucket(Bucket="loop"), sqs.create_queue(QueueName="loop")] and None`)
			for name, c := range map[string]struct {
				does        string
				by          *client.SourceRequest // nil: by nothing else than what it does
				concurrency int
				waits       bool // for the one that it invokes, and so for all cold starts behind it
			}{
				"bucket":     {`s3.put_object(Bucket="loop", Key="k", Body=b"x")`, &client.SourceRequest{Bucket: &client.Bucket{Name: "loop"}}, 1, false},
				"queue":      {`sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="loop")["QueueUrl"], MessageBody="x")`, &client.SourceRequest{Queue: &client.Queue{Name: "loop"}}, 1, false},
				"events":     {`events.put_events(Entries=[{"Source": "loop", "DetailType": "d", "Detail": "{}"}])`, &client.SourceRequest{Pattern: []byte(`{"source": ["loop"]}`)}, 1, false},
				"concurrent": {`events.put_events(Entries=[{"Source": "concurrent", "DetailType": "d", "Detail": "{}"}])`, &client.SourceRequest{Pattern: []byte(`{"source": ["concurrent"]}`)}, 4, false},
				"invoke":     {`functions.invoke(FunctionName="invoke", InvocationType="Event")`, nil, 1, false},
				"wait":       {`print("ANSWER", fails(boto3.client("lambda", config=boto3.session.Config(read_timeout=100)).invoke, FunctionName="wait"))`, nil, 1, true},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					files := clientsOf(t, "aws-clients")
					files["app.py"] = runs + "\ndef handler(event, context):\n    " + c.does + "\n"
					r := client.DeployRequest{Runtime: new(s.Newest(t, "python")), Handler: new("app.handler"), MemoryMB: new(512), TimeoutMS: new(int64(120_000)), Concurrency: &c.concurrency}
					if _, err := s.Deploy(t.Context(), t, name, files, r); err != nil {
						t.Fatal(err)
					}
					if c.by != nil {
						if _, err := s.Client.AddTrigger(t.Context(), client.TriggerRequest{Function: name, SourceRequest: *c.by}); err != nil {
							t.Fatal(err)
						}
					}
					o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: name, Payload: strings.NewReader("{}"), Length: -1, Log: true}, io.Discard)
					if err != nil || o.Fault != "" {
						t.Fatalf("%v, %s", err, o.LogTail)
					}
					var dead *client.DeadLetterList
					var ran *client.InvocationList // whose records come a moment after their answers
					for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
						if dead, err = s.Client.DeadLetters(t.Context(), name, client.DeadSelection{}, 0); err != nil {
							t.Fatal(err)
						}
						if ran, err = s.Client.Invocations(t.Context(), name, client.Period{}, 100); err != nil {
							t.Fatal(err)
						}
						if (dead.Total > 0 || c.waits) && len(ran.Invocations) >= 16 || time.Now().After(deadline) {
							break
						}
					}
					if c.waits {
						answers := ""
						for line, err := range s.Client.Logs(t.Context(), name, client.LogQuery{Grep: "ANSWER Recursive"}) {
							if err != nil {
								t.Fatal(err)
							}
							answers += line.Text
						}
						if dead.Total != 0 || !strings.HasPrefix(answers, "ANSWER RecursiveInvocationException: 16 functions have led to one another") {
							t.Errorf("answers %q, dead letters %+v", answers, dead)
						}
					} else if dead.Total != 1 || !strings.HasPrefix(dead.DeadLetters[0].Reason, "16 functions have led to one another by now, which is taken for a loop") {
						t.Errorf("dead letters: %+v", dead)
					}
					if len(ran.Invocations) != 16 {
						t.Errorf("it ran %d times", len(ran.Invocations))
					}
					lines := 0
					for line, err := range s.Client.Logs(t.Context(), name, client.LogQuery{Grep: "LOOP RequestId: "}) {
						if err != nil {
							t.Fatal(err)
						}
						if lines++; !strings.Contains(line.Text, "taken for a loop") {
							t.Errorf("line %q", line.Text)
						}
					}
					if lines != 1 {
						t.Errorf("the log has %d lines of it", lines)
					}
				})
			}
		})
	}
}
