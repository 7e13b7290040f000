package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lambent"
	"lambent/client"
	"lambent/test/daemon"
)

// Outcomes reach a receiver that checks signatures with the standard's own library, and a
// queue that AWS's client reads.
func TestOutcomesAreTold(t *testing.T) {
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"), "--driver", "process")
	secret, err := d.WebhookSecret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checker, err := standard.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err := errors.Join(err, checker.Verify(body, r.Header)); err != nil {
			t.Error(err)
		}
		told <- string(body)
	}))
	t.Cleanup(receiver.Close)
	key, err := d.CreateToken(t.Context(), client.TokenRequest{Kind: "access_key", Role: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	queues := sqs.New(sqs.Options{BaseEndpoint: &d.URL, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, "")})
	failed, err := queues.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("failed")})
	if err != nil {
		t.Fatal(err)
	}
	r := python(upload(t, d, "app.py", "def handler(event, context):\n    return {'half': 1 / event}\n"), 0)
	r.Async = &client.AsyncRequest{Attempts: new(1), OnSuccess: new(lambent.AsyncDestination(receiver.URL + "/hook")), OnFailure: new(lambent.AsyncDestination("queue:failed"))}
	if _, err := d.Deploy(t.Context(), "divide", r, nil); err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{"2", "0"} {
		if _, err := d.InvokeAsync(t.Context(), client.InvokeRequest{Name: "divide", Payload: strings.NewReader(payload)}, ""); err != nil {
			t.Fatal(err)
		}
	}
	var outcome struct {
		Type string
		Data struct{ ResponsePayload json.RawMessage }
	}
	if body := <-told; json.Unmarshal([]byte(body), &outcome) != nil || outcome.Type != "lambent.invocation.succeeded" || string(outcome.Data.ResponsePayload) != `{"half":0.5}` {
		t.Errorf("the receiver was told %s", body)
	}
	got, err := queues.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: failed.QueueUrl, WaitTimeSeconds: 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Messages) != 1 || !strings.Contains(*got.Messages[0].Body, `"errorType":"ZeroDivisionError"`) {
		t.Errorf("in the queue is %v", got.Messages)
	}
}

// Who may deploy a function has the server knock on no door that the function could not,
// and on each that it could.
func TestWebhookReachesWhatItsFunctionDoes(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("needs Linux and root, for functions that are isolated")
	}
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"))
	code := upload(t, d, "app.py", handler)
	call := func(name, network, url string) {
		t.Helper()
		r := python(code, 0)
		r.Network = []string{network}
		r.Async = &client.AsyncRequest{OnSuccess: new(lambent.AsyncDestination(url))}
		if _, err := d.Deploy(t.Context(), name, r, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := d.InvokeAsync(t.Context(), client.InvokeRequest{Name: name, Payload: strings.NewReader("{}")}, ""); err != nil {
			t.Fatal(err)
		}
	}
	closed := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	t.Cleanup(closed.Close)
	port := closed.Listener.Addr().(*net.TCPAddr).Port
	for name, c := range map[string]struct{ network, url string }{
		"knocks":   {"default", closed.URL},
		"any":      {"0.0.0.0/0", closed.URL},
		"itself":   {"0.0.0.0/0", fmt.Sprintf("http://0.0.0.0:%d", port)}, // which is the loopback to who connects
		"loopback": {"0.0.0.0/0", fmt.Sprintf("http://127.0.0.2:%d", port)},
	} {
		call(name, c.network, c.url)
		if reason := deadLetter(t, d, name); !strings.Contains(reason, "may not reach") {
			t.Errorf("%s: %s", name, reason)
		}
	}
	own := ownAddress(t)
	l, err := net.Listen("tcp", net.JoinHostPort(own, "0"))
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{}, 10)
	open := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told <- struct{}{} })}}
	open.Start()
	t.Cleanup(open.Close)
	call("opens", l.Addr().String(), open.URL)
	select {
	case <-told:
	case <-time.After(30 * time.Second):
		t.Errorf("%s was not told; the dead letter: %s", open.URL, deadLetter(t, d, "opens"))
	}
}

// deadLetter waits for a function's only one, and returns its reason.
func deadLetter(t *testing.T, d *daemon.Daemon, function string) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		list, err := d.DeadLetters(t.Context(), function, client.DeadSelection{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(list.DeadLetters) == 1 {
			return list.DeadLetters[0].Reason
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has no dead letter", function)
		}
	}
}

// What one server's webhook tells another's functions hear of, by the signature alone.
func TestWebhooksAreHeard(t *testing.T) {
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"), "--driver", "process")
	code := upload(t, d, "app.py", "def handler(event, context):\n    print('heard', event['detail-type'], event['detail'])\n")
	for name, on := range map[string]string{"shop": "", "hears": `{"source": ["webhook"], "detail": {"requestContext": {"condition": ["Success"]}}}`} {
		r := python(code, 0)
		if on == "" {
			r.Code = upload(t, d, "app.py", "def handler(event, context):\n    return 'two teas'\n")
			r.Async = &client.AsyncRequest{OnSuccess: new(lambent.AsyncDestination(d.URL + "/v1/webhooks"))}
		} else {
			r.Triggers = []client.SourceRequest{{Pattern: json.RawMessage(on)}}
		}
		if _, err := d.Deploy(t.Context(), name, r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.InvokeAsync(t.Context(), client.InvokeRequest{Name: "shop", Payload: strings.NewReader("{}")}, ""); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		for line, err := range d.Logs(t.Context(), "hears", client.LogQuery{}) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line.Text, "heard lambent.invocation.succeeded") && strings.Contains(line.Text, "'responsePayload': 'two teas'") {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody has heard of it")
		}
	}
}

// ownAddress is one of this machine on a network.
func ownAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip := a.(*net.IPNet).IP; ip.To4() != nil && !ip.IsLoopback() {
			return ip.String()
		}
	}
	const why = "this machine has no address but the loopback's"
	if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
	return ""
}
