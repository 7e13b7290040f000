package gcf_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/dispatch"
	"lambent/guest/gcf"
	"lambent/guest/guesttest"
	"lambent/guest/platformtest"
)

// A parked language is one of which the framework can be loaded ahead.
type parked struct {
	language, family string
	source           string // the file of the function that tells of its process
	fixed            string // a variable that only works at exec, and changes nothing
}

var bothParked = []parked{
	{"node", "google-nodejs", "identity.js", "NODE_REDIRECT_WARNINGS"},
	{"python", "google-python", "identity.py", "PYTHONSTARTUP"},
}

// chosen says what is loaded ahead for a configuration.
func chosen(p *platformtest.Platform, c lambent.Config) error {
	rev := lambent.NewRevision(lambent.Name{Project: lambent.DefaultProject, Function: "suite"}, lambent.Latest, &c)
	_, err := new(gcf.Guest).Ahead(p.Runtimes[c.Runtime], rev, c.Code)
	return err
}

// TestIndistinguishable asks a function for all that it can find out about its process:
// one that was executed for it, one that was booted before, one that had loaded the
// framework before, and one that had rehearsed, too.
func TestIndistinguishable(t *testing.T) {
	t.Parallel()
	for _, l := range bothParked {
		t.Run(l.language, func(t *testing.T) {
			p := platformtest.New(t, "namespace")
			plain := p.Runtimes[p.Newest(t, l.family)]
			p.LoadAhead(t, l.language)
			c := on(t, p, l.family, framework(t, l.language))
			c.Handler, c.Env = "identity", map[string]string{"FUNCTION_SOURCE": l.source, "MARK": "1"}
			tell := func(f guesttest.Platform) map[string]any {
				a := ask(t, f, "POST", "/", map[string][]string{"Content-Type": {"text/plain"}}, []byte("said"))
				return decode[map[string]any](t, body(t, a))
			}
			if err := chosen(p, c); err != nil {
				t.Fatalf("the framework is not loaded ahead: %v", err)
			}
			f := p.Deploy(t, c.WithDefaults())
			loaded := tell(f)
			for parked := f.Invoker.(*dispatch.Dispatcher).Snapshot; parked().Parked < 2; {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(time.Second) // they rehearse
			fault(t, get(t, f, "/crash"), lambent.FaultExit, "signal: killed")
			rehearsed := tell(f) // a sandbox that was parked is taken
			p.Runtimes[plain.Name] = plain
			booted := tell(p.Deploy(t, c.WithDefaults()))
			delete(c.Env, "MARK")
			c.Env[l.fixed] = ""
			executed := tell(p.Deploy(t, c.WithDefaults()))
			differ(t, "booted before", executed, booted)
			differ(t, "loaded before", executed, loaded)
			differ(t, "rehearsed", executed, rehearsed)
		})
	}
}

// differ fails the test for each thing that differs.
func differ(t *testing.T, what string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			for k, v := range want {
				differ(t, what+" "+k, v, got[k])
			}
			for k, v := range got {
				if _, ok := want[k]; !ok {
					differ(t, what+" "+k, nil, v)
				}
			}
			return
		}
	}
	if !reflect.DeepEqual(want, got) {
		a, _ := json.Marshal(want)
		b, _ := json.Marshal(got)
		t.Errorf("%s:\n%.1500s\nand not\n%.1500s", what, b, a)
	}
}

// TestAheadOrTheirs changes what code brings: the framework that was loaded ahead serves
// what is the same, and any other brings its own. Both answer alike.
func TestAheadOrTheirs(t *testing.T) {
	t.Parallel()
	type change struct {
		changes map[string]string // of files: what is written to their end
		env     map[string]string
		why     string // the framework is not loaded ahead; "": it is
	}
	const node, python = "node_modules/@google-cloud/functions-framework/", "functions_framework/"
	cases := map[string]map[string]change{
		"node": {
			"same":              {nil, nil, ""},
			"same, with others": {map[string]string{"node_modules/mine/index.js": "// mine"}, map[string]string{"GREETING": "hello", "NODE_ENV": "production"}, ""},
			"version":           {map[string]string{node + "package.json": "\n"}, nil, "differs"},
			"patched":           {map[string]string{"node_modules/qs/lib/parse.js": "\n// patched"}, nil, "qs/lib/parse.js differs"},
			"one more":          {map[string]string{"node_modules/supports-color/index.js": "exports.stderr = {level: 3};"}, nil, "supports-color is there"},
			"nested":            {map[string]string{"node_modules/express/node_modules/qs/index.js": "module.exports = require('../../../qs');"}, nil, "express/node_modules is more"},
			"variable":          {nil, map[string]string{"DEBUG": "nothing"}, "DEBUG"},
			"kind of variable":  {nil, map[string]string{"DEBUG_COLORS": "1"}, "DEBUG_COLORS"},
		},
		"python": {
			"same":              {nil, nil, ""},
			"same, with others": {map[string]string{"google/cloud/storage/__init__.py": "", "mine.py": "", "yaml/__init__.py": "", "colorsys.py": ""}, map[string]string{"THREADS": "4"}, ""},
			"version":           {map[string]string{python + "__init__.py": "\n"}, nil, "functions_framework/__init__.py differs"},
			"one more":          {map[string]string{"flask/mine.py": ""}, nil, "flask/mine.py is more"},
			"sitecustomize":     {map[string]string{"sitecustomize.py": "import sys; sys.stderr.write('mine is run')"}, nil, "sitecustomize.py is there"},
			"standard library":  {map[string]string{"uuid.py": "from types import SimpleNamespace as UUID, SimpleNamespace as SafeUUID\nuuid4 = lambda: 'mine'\n"}, nil, "uuid.py is there"},
			"variable":          {nil, map[string]string{"FORWARDED_ALLOW_IPS": "*"}, "FORWARDED_ALLOW_IPS"},
		},
	}
	for _, l := range bothParked {
		t.Run(l.language, func(t *testing.T) {
			p := platformtest.New(t, "namespace")
			p.LoadAhead(t, l.language)
			for name, change := range cases[l.language] {
				t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
					c := on(t, p, l.family, framework(t, l.language))
					c.Handler, c.Env = "web", change.env
					for name, more := range change.changes {
						add(t, filepath.Join(c.Code, name), more)
					}
					err := chosen(p, c)
					if (err == nil) != (change.why == "") || err != nil && !strings.Contains(err.Error(), change.why) {
						t.Errorf("loaded ahead or not: %v, want %q", err, change.why)
					}
					f := p.Deploy(t, c.WithDefaults())
					a := ask(t, f, "POST", "/echo", http.Header{"Content-Type": {"text/plain"}}, []byte("hello"))
					if got := body(t, a); a.Status != 201 || !strings.Contains(got, "hello") && !strings.Contains(got, "aGVsbG8=") {
						t.Errorf("status %d, %s", a.Status, got)
					}
					if got := f.Log(); name == "sitecustomize" && !strings.Contains(got, "mine is run") {
						t.Errorf("the code's sitecustomize was not run: %s", got)
					}
				})
			}
		})
	}
}

// add writes to the end of a file, which may be new.
func add(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// TestKinds runs functions of each signature, and of ES modules, by a framework that was
// loaded ahead.
func TestKinds(t *testing.T) {
	t.Parallel()
	sources := map[string]map[string]string{
		"node": {
			"package.json": `{"name": "kinds", "type": "module", "main": "kinds.js"}`,
			"kinds.js": `import functions from '@google-cloud/functions-framework';
				import express, {request} from 'express';
				export const http = (req, res) => res.json({ok: Object.getPrototypeOf(req.app.request) === express.request && request === express.request, raw: req.rawBody.toString(), body: req.body});
				functions.http('declared', (req, res) => res.send({ok: req.rawBody.toString() === '{"a":1}', main: import.meta.url}));
				functions.cloudEvent('cloudevent', (e) => { console.log('ok ' + e.specversion + ' ' + e.data.name); });
				export const event = (data, context) => { console.log('ok ' + data.name + ' ' + context.eventType); };`,
		},
		"python": {
			"main.py": `
import cloudevents.http, flask, functions_framework
def http(request):
    return {"ok": isinstance(request._get_current_object() if hasattr(request, "_get_current_object") else request, flask.Request), "raw": request.get_data(as_text=True), "body": request.get_json()}
@functions_framework.http
def declared(request):
    return {"ok": request is not None, "main": __name__}
@functions_framework.cloud_event
def cloudevent(e):
    print("ok", isinstance(e, cloudevents.http.CloudEvent), e.data["name"])
def event(data, context):
    print("ok", data["name"], context.event_type)
class In:
    def __init__(self, a): self.a = a
    @staticmethod
    def from_dict(d): return In(d["a"])
    def to_dict(self): return {"ok": self.a == 1}
@functions_framework.typed(In)
def typed(x):
    return x
`,
		},
	}
	for _, l := range bothParked {
		t.Run(l.language, func(t *testing.T) {
			p := platformtest.New(t, "namespace")
			p.LoadAhead(t, l.language)
			c := on(t, p, l.family, filepath.Join(platformtest.PublicDir(t), "code"))
			platformtest.Framework(t, l.language, c.Code)
			for name, text := range sources[l.language] {
				if err := os.WriteFile(filepath.Join(c.Code, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := chosen(p, c); err != nil {
				t.Fatalf("the framework is not loaded ahead: %v", err)
			}
			for target, signature := range map[string]string{"http": "", "declared": "", "cloudevent": "cloudevent", "event": "event", "typed": "typed"} {
				t.Run(target, func(t *testing.T) {
					if target == "typed" && l.language == "node" {
						t.Skip("the framework has no such signature")
					}
					c := c
					c.Handler = target
					if signature != "" {
						c.Env = map[string]string{"FUNCTION_SIGNATURE_TYPE": signature}
					}
					f := p.Deploy(t, c.WithDefaults())
					if strings.HasSuffix(target, "event") {
						body(t, f.Call(t, storageEvent))
						if log := f.Log(); !strings.Contains(strings.ToLower(log), "ok") || !strings.Contains(log, "grüße.txt") || strings.Contains(strings.ToLower(log), "false") {
							t.Errorf("the log is\n%s", log)
						}
						return
					}
					got := body(t, ask(t, f, "POST", "/", http.Header{"Content-Type": {"application/json"}}, []byte(`{"a":1}`)))
					if !decode[struct{ OK bool }](t, got).OK {
						t.Errorf("got %s", got)
					}
				})
			}
		})
	}
}
