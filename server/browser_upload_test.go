package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"lambent/client"
	"lambent/server/servertest"
)

// uploads is a page that uploads in each way in which pages do, and reports what came of
// it: by a form, by a form with progress, which a browser asks for first, and to presigned
// URLs.
const uploads = `<!DOCTYPE html><body><script>
const form = FORM, puts = PUTS, out = {};
const data = key => { const d = new FormData(); for (const [k, v] of Object.entries(form.Values)) d.append(k, k == "key" ? key : v); d.append("file", new Blob(["from a page"]), "f.txt"); return d };
const attempts = {
  form: () => new Promise((ok, no) => {
    const frame = document.createElement("iframe"); frame.name = "answer"; document.body.append(frame);
    const f = document.createElement("form"); f.action = form.URL; f.method = "post"; f.enctype = "multipart/form-data"; f.target = "answer"; document.body.append(f);
    for (const [k, v] of Object.entries(form.Values)) { const i = document.createElement("input"); i.type = "hidden"; i.name = k; i.value = k == "key" ? "page/form" : v; f.append(i) }
    const file = document.createElement("input"); file.type = "file"; file.name = "file"; f.append(file);
    const t = new DataTransfer(); t.items.add(new File(["from a page"], "f.txt")); file.files = t.files;
    f.submit(); setTimeout(() => ok("submitted"), 1000); // a 204 loads nothing
  }),
  progress: () => new Promise((ok, no) => {
    const x = new XMLHttpRequest(); x.open("POST", form.URL); x.upload.onprogress = () => {};
    x.onload = () => ok(x.status + " " + x.getResponseHeader("ETag")); x.onerror = () => no(Error("no answer that can be read")); x.send(data("page/progress"));
  }),
};
for (const [name, p] of Object.entries(puts))
  attempts[name] = () => fetch(p.url, {method: "PUT", body: "from a page", headers: p.headers}).then(r => r.status + " " + r.headers.get("ETag"));
(async () => {
  await Promise.all(Object.entries(attempts).map(async ([name, attempt]) => {
    try { out[name] = await attempt() } catch (e) { out[name] = "refused: " + e }
  }));
  await fetch("/report", {method: "POST", body: JSON.stringify(out)});
})();
</script>`

// A real browser uploads from a page of another origin, where the bucket's CORS
// configuration lets it, and each upload is an event.
func TestBrowserUploads(t *testing.T) {
	program := browser(t)
	s := servertest.Start(t)
	s.Python(t, "told", "def handler(event, context):\n    r = event['Records'][0]\n    print('TOLD', r['eventName'], r['s3']['object']['key'], r['s3']['object']['size'])\n")
	bucketOf := func(project string) *s3.Client {
		t.Helper()
		cl := client.New(s.URL(), s.Token)
		cl.Project = project
		t.Cleanup(cl.Close)
		key, err := cl.CreateToken(t.Context(), client.TokenRequest{Kind: "access_key", Role: "admin"})
		if err != nil {
			t.Fatal(err)
		}
		c := s3.New(s3.Options{BaseEndpoint: new(s.URL()), Region: "us-east-1", UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, "")})
		if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: new("uploads")}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	bucketOf("another") // which has no CORS configuration
	c := bucketOf("default")
	if _, err := s.Client.AddTrigger(t.Context(), client.TriggerRequest{Function: "told", SourceRequest: client.SourceRequest{Bucket: &client.Bucket{Name: "uploads"}}}); err != nil {
		t.Fatal(err)
	}

	presign := s3.NewPresignClient(c)
	form, err := presign.PresignPostObject(t.Context(), &s3.PutObjectInput{Bucket: new("uploads"), Key: new("page/${filename}")}, func(o *s3.PresignPostOptions) {
		o.Conditions = []any{[]any{"starts-with", "$key", "page/"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	type put struct {
		URL     string            `json:"url"`
		Headers map[string]string `json:"headers"`
	}
	puts := map[string]put{}
	for name, contentType := range map[string]string{"put": "text/plain", "typed": "application/x-mine"} {
		r, err := presign.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: new("uploads"), Key: new("page/" + name), ContentType: &contentType})
		if err != nil {
			t.Fatal(err)
		}
		puts[name] = put{r.URL, map[string]string{"Content-Type": contentType}}
	}
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	page := strings.NewReplacer("FORM", text(form), "PUTS", text(puts)).Replace(uploads)

	reports := make(chan string, 10)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/report" {
			b, _ := io.ReadAll(r.Body)
			reports <- string(b)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, page)
	})
	shop, stranger := httptest.NewServer(handler), httptest.NewServer(handler)
	t.Cleanup(shop.Close)
	t.Cleanup(stranger.Close)
	upload := func(origin string) (results map[string]string) {
		t.Helper()
		if err := json.Unmarshal([]byte(visit(t, program, origin+"/", reports)), &results); err != nil || len(results) != 4 {
			t.Fatalf("the page reports %v, %v", results, err)
		}
		return results
	}
	told := func(least int) (all []string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			all = nil
			for line, err := range s.Client.Logs(t.Context(), "told", client.LogQuery{Grep: "TOLD "}) {
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, strings.TrimPrefix(strings.TrimSpace(line.Text), "TOLD "))
			}
			if len(all) >= least || time.Now().After(deadline) {
				slices.Sort(all)
				return all
			}
		}
	}

	t.Run("no configuration", func(t *testing.T) {
		for name, result := range upload(shop.URL) { // a form that is not asked for needs nobody's leave, as it never did
			if (name == "form") == strings.HasPrefix(result, "refused: ") {
				t.Errorf("%s: %s", name, result)
			}
		}
		if got := told(1); !slices.Equal(got, []string{"ObjectCreated:Post page/form 11"}) {
			t.Errorf("events: %q", got)
		}
	})
	if _, err := c.PutBucketCors(t.Context(), &s3.PutBucketCorsInput{Bucket: new("uploads"), CORSConfiguration: &types.CORSConfiguration{CORSRules: []types.CORSRule{
		{AllowedOrigins: []string{shop.URL}, AllowedMethods: []string{"PUT", "POST"}, AllowedHeaders: []string{"content-type"}, ExposeHeaders: []string{"ETag"}, MaxAgeSeconds: aws.Int32(60)},
	}}}); err != nil {
		t.Fatal(err)
	}
	t.Run("another origin", func(t *testing.T) {
		for name, result := range upload(stranger.URL) {
			if (name == "form") == strings.HasPrefix(result, "refused: ") {
				t.Errorf("%s: %s", name, result)
			}
		}
	})
	t.Run("allowed", func(t *testing.T) {
		for name, result := range upload(shop.URL) {
			if name != "form" && !strings.HasPrefix(result, "20") || strings.HasSuffix(result, "null") {
				t.Errorf("%s: %s", name, result)
			}
		}
		want := []string{
			"ObjectCreated:Post page/form 11", "ObjectCreated:Post page/form 11", "ObjectCreated:Post page/form 11", "ObjectCreated:Post page/progress 11",
			"ObjectCreated:Put page/put 11", "ObjectCreated:Put page/typed 11",
		}
		if got := told(len(want)); !slices.Equal(got, want) {
			t.Errorf("events: %q", got)
		}
	})
	if got, err := c.GetBucketCors(t.Context(), &s3.GetBucketCorsInput{Bucket: new("uploads")}); err != nil || len(got.CORSRules) != 1 || got.CORSRules[0].AllowedOrigins[0] != shop.URL {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.DeleteBucketCors(t.Context(), &s3.DeleteBucketCorsInput{Bucket: new("uploads")}); err != nil {
		t.Fatal(err)
	}
	// What is ours, and what is nobody's, allows nothing.
	for _, path := range []string{"/uploads", "/nosuch", "/metrics", "/v1/functions", "/uploads/k?X-Amz-Credential=LAKNOSUCH%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"} {
		a := servertest.Do(t, s.Request(t, http.MethodOptions, path, nil, "Origin", shop.URL, "Access-Control-Request-Method", "PUT"))
		if a.StatusCode < 400 {
			t.Errorf("%s: status %d", path, a.StatusCode)
		}
		checkNoCORS(t, a)
	}
}
