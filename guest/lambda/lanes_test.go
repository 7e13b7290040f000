package lambda_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/guest/guesttest"
	"lambent/guest/platformtest"
)

// What a handler may count on where several invocations are in its instance.
const (
	lanesNode = `const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
let busy = 0;
exports.handler = async (event, context) => {
  busy++;
  await sleep(event.ms ?? 100);
  console.log('in %s', event.n);
  await sleep(1);
  const most = busy--;
  if (event.fail) throw new TypeError('call ' + event.n);
  if (event.nothing) return undefined;
  if (event.cycle) { const a = {}; a.a = a; return a; }
  return { n: event.n, id: context.awsRequestId, busy: most, trace: process.env._X_AMZN_TRACE_ID ?? 'none', max: process.env.AWS_LAMBDA_MAX_CONCURRENCY };
};
exports.callback = (event, context, callback) => { setTimeout(() => event.fail ? callback(new TypeError('call ' + event.n)) : callback(null, { n: event.n, id: context.awsRequestId }), 100); };
exports.done = (event, context) => { setTimeout(() => event.fail ? context.fail(new TypeError('call ' + event.n)) : context.succeed({ n: event.n, id: context.awsRequestId }), 100); };
exports.large = async (event) => 'x'.repeat(event.bytes);
exports.late = async (event) => { await sleep(100); if (event.fail) setTimeout(() => { throw new RangeError('call ' + event.n); }); await sleep(5000); };
`
	lanesPython = `import os, time, threading
busy = 0
def handler(event, context):
    global busy
    busy += 1
    os.chdir("/tmp")
    time.sleep(event.get("ms", 100) / 1000)
    print("in", event["n"], context.aws_request_id)
    most, busy = busy, busy - 1
    if event.get("fail"):
        raise TypeError("call %d" % event["n"])
    return {"n": event["n"], "id": context.aws_request_id, "busy": most, "main": threading.current_thread() is threading.main_thread(),
        "trace": os.environ.get("_X_AMZN_TRACE_ID", "none")[:7], "max": os.environ["AWS_LAMBDA_MAX_CONCURRENCY"]}
`
)

func lanesCode(t *testing.T) string {
	code := filepath.Join(platformtest.PublicDir(t), "code")
	if err := os.Mkdir(code, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"app.cjs": lanesNode, "app.py": lanesPython} {
		if err := os.WriteFile(filepath.Join(code, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return code
}

// ten makes ten calls, of which the last is to fail.
func ten(t *testing.T, p guesttest.Platform) []*guesttest.Answer {
	answers := make([]*guesttest.Answer, 10)
	var wg sync.WaitGroup
	for n := range answers {
		wg.Go(func() { answers[n] = p.Call(t, fmt.Sprintf(`{"n":%d,"fail":%t}`, n, n == 9)) })
	}
	wg.Wait()
	return answers
}

func TestLanes(t *testing.T) {
	if more := os.Getenv("LAMBENT_TEST_INTERPRETERS"); more != "" {
		t.Setenv("PATH", os.Getenv("PATH")+":"+more)
	}
	p := platformtest.New(t, "process")
	code := lanesCode(t)
	config := func(rt, handler string) lambent.Config {
		return lambent.Config{Runtime: rt, Handler: handler, Code: code, MemoryMB: 512, Timeout: 20 * time.Second, Concurrency: 10, Env: map[string]string{}}.WithDefaults()
	}
	check := func(t *testing.T, answers []*guesttest.Answer, want string) {
		t.Helper()
		for n, a := range answers[:9] {
			if a.Err != nil || a.Result.Fault != nil {
				t.Errorf("call %d: %v, %v", n, a.Err, a.Result.Fault)
			}
			all := fmt.Sprintf(`{"n":%d,"id":%q%s}`, n, a.Result.Usage.ID, want)
			if got := strings.ReplaceAll(a.Body.String(), ": ", ":"); strings.ReplaceAll(got, ", ", ",") != all {
				t.Errorf("got %s, want %s", got, all)
			}
		}
		if f := answers[9].Result.Fault; f == nil || f.Type != "TypeError" || f.Message != "call 9" {
			t.Errorf("the last: %v", f)
		}
	}
	told := func(t *testing.T, answers []*guesttest.Answer) {
		t.Helper()
		for n, a := range answers {
			if tail := string(a.Result.LogTail); !strings.Contains(tail, fmt.Sprintf("in %d", n)) || strings.Contains(tail, "ERROR") != (n == 9) {
				t.Errorf("the log of call %d is\n%s", n, tail)
			}
		}
	}
	names := make([]string, 0, len(p.Runtimes))
	for name, r := range p.Runtimes {
		if r.Guest == "lambda" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		late := map[string]string{"NODE_OPTIONS": "--max-old-space-size=300"}
		switch {
		case strings.HasPrefix(name, "python"):
			late = map[string]string{"PYTHONHASHSEED": "1"}
			t.Run(name, func(t *testing.T) {
				for _, env := range []map[string]string{{}, late} {
					c := config(name, "app.handler")
					c.Env = env
					answers := ten(t, p.Deploy(t, c))
					check(t, answers, `,"busy":1,"main":true,"trace":"Root=1-","max":"10"`)
					told(t, answers)
				}
			})
		case strings.HasPrefix(name, "nodejs"):
			t.Run(name, func(t *testing.T) {
				for _, env := range []map[string]string{{}, late} {
					c := config(name, "app.handler")
					c.Env = env
					answers := ten(t, p.Deploy(t, c))
					told(t, answers)
					crowd := 0
					for _, a := range answers[:9] { // they go on together
						body := a.Body.String()
						at := strings.Index(body, `"busy":`)
						if at < 0 || !strings.HasSuffix(body, `,"trace":"none","max":"10"}`) {
							t.Fatalf("got %s", body)
						}
						if n := 0; true {
							fmt.Sscanf(body[at:], `"busy":%d`, &n)
							crowd = max(crowd, n)
						}
					}
					if crowd < 5 {
						t.Errorf("at most %d went on together", crowd)
					}
				}
				d := p.Deploy(t, config(name, "app.handler"))
				if a := d.Call(t, `{"n":1,"nothing":true}`); a.Body.String() != "null" {
					t.Errorf("nothing is %q, %v", a.Body.String(), a.Result.Fault)
				}
				if a := d.Call(t, `{"n":1,"cycle":true}`); a.Result.Fault == nil || !strings.Contains(a.Result.Fault.Message, "stringify") {
					t.Errorf("a cycle is %q, %v", a.Body.String(), a.Result.Fault)
				}
				// A lane that breaks is replaced: what is far too large is not read to its end.
				// V8 keeps several such answers until it likes to collect them.
				large := config(name, "app.large")
				large.MemoryMB = 1024
				d = p.Deploy(t, large)
				first := d.Call(t, `{"bytes":2}`).Result.Usage.Instance
				for range 3 {
					if f := d.Call(t, `{"bytes":70000000}`).Result.Fault; f == nil || f.Kind != lambent.FaultTooBig {
						t.Errorf("too large: %v", f)
					}
					if a := d.Call(t, `{"bytes":2}`); a.Body.String() != `"xx"` || a.Result.Usage.Instance != first {
						t.Errorf("after what was too large: %q, %v, %+v", a.Body.String(), a.Result.Fault, a.Result.Usage)
					}
				}
				old := name < "nodejs24"
				if old {
					check(t, ten(t, p.Deploy(t, config(name, "app.callback"))), "")
					check(t, ten(t, p.Deploy(t, config(name, "app.done"))), "")
				}
				answers := ten(t, p.Deploy(t, config(name, "app.late")))
				for n, a := range answers {
					typ, message := "Runtime.ExitError", "RequestId: "+a.Result.Usage.ID+" Error: Runtime exited with error: exit status 1"
					if old && n == 9 {
						typ, message = "RangeError", "call 9"
					} else if old {
						message += "29"
					}
					if f := a.Result.Fault; f == nil || f.Type != typ || f.Message != message {
						t.Errorf("call %d ends with %v, want %s: %s", n, f, typ, message)
					}
				}
			})
		}
	}
}
