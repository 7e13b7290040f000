package v1_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"lambent"
	"lambent/client"
	"lambent/server/servertest"
)

func source(text string) servertest.Files {
	return servertest.Files{"app.py": "def handler(event, context):\n    return '" + text + "'\n"}
}

// call invokes a function and returns its answer.
func call(t *testing.T, s *servertest.Server, name, qualifier string) string {
	t.Helper()
	var out bytes.Buffer
	o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{Name: name, Qualifier: qualifier}, &out)
	if err != nil {
		return "error: " + err.Error()
	}
	if o.Fault != "" {
		return "fault: " + o.FaultMessage
	}
	return strings.Trim(out.String(), `"`)
}

// refused checks the kind of an error, and that it is one line.
func refused(t *testing.T, err error, kind lambent.Kind, words string) {
	t.Helper()
	e, ok := errors.AsType[*lambent.Error](err)
	if !ok || e.Kind != kind || !strings.Contains(e.Message, words) || strings.ContainsAny(e.Message+e.Hint, "\n\r") {
		t.Errorf("the error is %+v, want %v with %q", err, kind, words)
	}
}

// The life of a function, as a client sees it.
func TestFunction(t *testing.T) {
	s := servertest.Start(t)
	ctx := t.Context()
	python := client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler")}

	made, err := s.Deploy(ctx, t, "f", source("one"), python)
	if err != nil {
		t.Fatal(err)
	}
	if c := made.Configuration; made.Name != "f" || made.Project != "default" || made.Revision == "" || c.MemoryMB != 128 || c.TimeoutMS != 3000 ||
		c.Handler != "app.handler" || !strings.HasPrefix(c.Runtime, "python3.") || made.URL.Policy != lambent.URLNone || made.LastVersion != 0 ||
		made.ARN != "arn:aws:lambda:us-east-1:000000000000:function:f" {
		t.Errorf("made: %+v", made)
	}
	got, err := s.Client.Function(ctx, "f")
	if err != nil || got.Revision != made.Revision || got.Configuration.Code != made.Configuration.Code {
		t.Errorf("got %+v, %v", got, err)
	}
	if out := call(t, s, "f", ""); out != "one" {
		t.Errorf("it answers %s", out)
	}

	// Configuration alone; what is not said stays.
	changed, err := s.Client.Deploy(ctx, "f", &client.DeployRequest{MemoryMB: new(256), Env: map[string]string{"A": "b"}, ExpectRevision: made.Revision}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c := changed.Configuration; changed.Revision == made.Revision || c.MemoryMB != 256 || c.Env["A"] != "b" || c.Code != made.Configuration.Code || c.Handler != "app.handler" {
		t.Errorf("changed: %+v", changed)
	}
	// On a revision that it is not at any more: nothing.
	_, err = s.Client.Deploy(ctx, "f", &client.DeployRequest{MemoryMB: new(512), ExpectRevision: made.Revision}, nil)
	refused(t, err, lambent.Stale, "revision")
	refused(t, s.Client.Delete(ctx, "f", made.Revision), lambent.Stale, "revision")
	_, err = s.Client.Deploy(ctx, "new", &client.DeployRequest{Runtime: python.Runtime, Handler: python.Handler, Code: made.Configuration.Code, ExpectRevision: "7"}, nil)
	refused(t, err, lambent.NotFound, `function "new" does not exist`)
	a := servertest.Do(t, s.Request(t, "PUT", "/v1/functions/f", strings.NewReader(`{"memory_mb":512,"expect_revision":"`+made.Revision+`"}`),
		"Content-Type", "application/json", "Authorization", "Bearer "+s.Token))
	if a.StatusCode != http.StatusPreconditionFailed || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("over HTTP: %d %s", a.StatusCode, a.Body)
	}
	if now, _ := s.Client.Function(ctx, "f"); now.Revision != changed.Revision {
		t.Errorf("a refusal changed the function: %+v", now)
	}

	// A dry run says what would be.
	dry, err := s.Client.Deploy(ctx, "f", &client.DeployRequest{MemoryMB: new(1024), DryRun: true}, nil)
	if err != nil || dry.Configuration.MemoryMB != 1024 {
		t.Errorf("dry: %+v, %v", dry, err)
	}
	if now, _ := s.Client.Function(ctx, "f"); now.Revision != changed.Revision {
		t.Errorf("a dry run changed the function: %+v", now)
	}

	// The archive is the one that was uploaded, byte for byte.
	var zip bytes.Buffer
	if err := s.Client.FunctionCode(ctx, "f", "", &zip); err != nil || int64(zip.Len()) != made.Configuration.ZipBytes {
		t.Errorf("the archive has %d bytes, %v; want %d", zip.Len(), err, made.Configuration.ZipBytes)
	}
	if has, err := s.Client.HasCode(ctx, made.Configuration.Code); !has || err != nil {
		t.Errorf("its code: %v, %v", has, err)
	}
	if has, err := s.Client.HasCode(ctx, strings.Repeat("0", 64)); has || err != nil {
		t.Errorf("no code: %v, %v", has, err)
	}

	if err := s.Client.Delete(ctx, "f", changed.Revision); err != nil {
		t.Fatal(err)
	}
	_, err = s.Client.Function(ctx, "f")
	refused(t, err, lambent.NotFound, `function "f" does not exist`)
	_, err = s.Client.Invoke(ctx, client.InvokeRequest{Name: "f"}, io.Discard)
	refused(t, err, lambent.NotFound, `function "f" does not exist`)
	refused(t, s.Client.Delete(ctx, "f", ""), lambent.NotFound, `function "f" does not exist`)

	// Its name is free again, and its past is not the next one's; but what it cost stays known.
	if _, err := s.Deploy(ctx, t, "f", source("again"), python); err != nil {
		t.Fatal(err)
	}
	for line, err := range s.Client.Logs(ctx, "f", client.LogQuery{}) {
		t.Errorf("the log of a new function has %+v, %v", line, err)
	}
	if list, err := s.Client.Invocations(ctx, "f", client.Period{}, 10); err != nil || len(list.Invocations) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	if out := call(t, s, "f", ""); out != "again" {
		t.Errorf("the next one answers %s", out)
	}
}

// A page after the other makes the whole, in order.
func TestPages(t *testing.T) {
	s := servertest.Start(t)
	ctx := t.Context()
	first, err := s.Deploy(ctx, t, "f00", source("x"), client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler")})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 25; i++ {
		if _, err := s.Client.Deploy(ctx, fmt.Sprintf("f%02d", i), &client.DeployRequest{
			Runtime: new("python3"), Handler: new("app.handler"), Code: first.Configuration.Code, Check: new(false),
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, size := range []int{1, 7, 24, 25, 26, 1000} {
		var names []string
		for after := ""; ; {
			page, err := s.Client.Functions(ctx, after, size)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Functions) > size || len(page.Functions) == 0 {
				t.Fatalf("a page of %d has %d functions", size, len(page.Functions))
			}
			for _, f := range page.Functions {
				names = append(names, f.Name)
			}
			if after = page.Next; after == "" {
				break
			}
		}
		for i, n := range names {
			if len(names) != 25 || n != fmt.Sprintf("f%02d", i) {
				t.Fatalf("by %d: %v", size, names)
			}
		}
	}
	for i := range 12 {
		if _, err := s.Client.Deploy(ctx, "f00", &client.DeployRequest{MemoryMB: new(200 + i), Publish: true, Check: new(false)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	next, n := 0, 0
	for {
		page, err := s.Client.Versions(ctx, "f00", next, 5)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Versions {
			if n++; v.Version != n || v.Configuration.MemoryMB != 199+n {
				t.Errorf("version %d is %+v", n, v)
			}
		}
		if next = page.Next; next == 0 {
			break
		}
	}
	if n != 12 {
		t.Errorf("%d versions, want 12", n)
	}
	for _, bad := range []string{"?limit=0", "?limit=1001", "?limit=x", "?nosuch=1"} {
		if a := s.Get(t, "/v1/functions"+bad, "Authorization", "Bearer "+s.Token); a.StatusCode != 400 {
			t.Errorf("%s: %d %s", bad, a.StatusCode, a.Body)
		}
	}
}

// Archives that are none, or mean harm, change nothing.
func TestBadCode(t *testing.T) {
	s := servertest.Start(t)
	ctx := t.Context()
	put := func(b []byte) error {
		_, err := s.Client.PutCode(ctx, bytes.NewReader(b), int64(len(b)))
		return err
	}
	good := servertest.Zip(t, source("x"))
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("This is no archive."), "cut short": good[:len(good)-30],
		"a path out of it":   servertest.Zip(t, servertest.Files{"../../evil.py": "x"}),
		"an absolute path":   servertest.Zip(t, servertest.Files{"/etc/evil.py": "x"}),
		"a path of Windows":  servertest.Zip(t, servertest.Files{`..\evil.py`: "x"}),
		"a file in the way":  servertest.Zip(t, servertest.Files{"a": "x", "a/b": "y"}),
		"a NUL in a name":    servertest.Zip(t, servertest.Files{"a\x00b": "x"}),
		"damage to its body": bytes.Replace(good, []byte("def"), []byte("fed"), 1),
	} {
		if name == "damage to its body" {
			b = append([]byte{}, good...)
			b[40] ^= 0xff
		}
		e, ok := errors.AsType[*lambent.Error](put(b))
		if !ok || e.Kind != lambent.Invalid && e.Kind != lambent.Broken || strings.Contains(e.Message, "\n") || e.Message == "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	a := servertest.Do(t, s.Request(t, "POST", "/v1/code", io.LimitReader(zeros{}, 51<<20), "Authorization", "Bearer "+s.Token))
	if a.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(a.Body, "50 MB") && !strings.Contains(a.Body, "52428800") {
		t.Errorf("51 MB: %d %s", a.StatusCode, a.Body)
	}
	_, err := s.Client.Deploy(ctx, "f", &client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler"), Code: strings.Repeat("0", 64)}, nil)
	refused(t, err, lambent.Invalid, strings.Repeat("0", 64)+" is not here: upload it first")
	_, err = s.Client.Deploy(ctx, "f", &client.DeployRequest{Runtime: new("python3"), Handler: new("app.handler")}, nil)
	refused(t, err, lambent.Invalid, `function "f" is new: its code is needed`)
	code, err := s.Client.PutCode(ctx, bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	whole := `{"runtime":"python3","handler":"app.handler","code":"` + code.Digest + `",`
	for body, words := range map[string]string{
		`{"memory":128}`: "memory", `{"memory_mb":"x"}`: "memory_mb", `[]`: "object", `{`: "", whole + `"memory_mb":64}`: "memory 64 MB is outside 128 to 10240 MB",
		whole + `"timeout_ms":0}`: "timeout_ms is 0: leave it out", whole + `"timeout_ms":-1}`: "timeout -1ms is under 1ms",
		whole + `"url":{"policy":"all"}}`: `url policy \"all\"`, whole + `"env":{"A=B":"x"}}`: `env name \"A=B\"`,
		whole + `"env":{"A":"` + strings.Repeat("x", 5000) + `"}}`: "over the limit of 4096",
		whole + `"scaling":{"max_instances":-1}}`:                  "max instances", whole + `"concurrency":0}`: "concurrency is 0: leave it out",
		whole + `"tmp_mb":1}`: "512 to 10240", whole + `"description":"` + strings.Repeat("x", 300) + `"}`: "256",
	} {
		a := servertest.Do(t, s.Request(t, "PUT", "/v1/functions/f", strings.NewReader(body), "Content-Type", "application/json", "Authorization", "Bearer "+s.Token))
		if a.StatusCode != 400 || !strings.Contains(a.Body, words) || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", body, a.StatusCode, a.Body)
		}
	}
	for _, name := range []string{"a%2Fb", "..%2Fx", "a b", strings.Repeat("a", 65), "ü", "a:b"} {
		a := servertest.Do(t, s.Request(t, "PUT", "/v1/functions/"+strings.ReplaceAll(name, " ", "%20"), strings.NewReader("{}"), "Content-Type", "application/json", "Authorization", "Bearer "+s.Token))
		if a.StatusCode != 400 || !strings.Contains(a.Body, "letters, digits") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.Body)
		}
	}
	if list, err := s.Client.Functions(ctx, "", 10); err != nil || len(list.Functions) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
