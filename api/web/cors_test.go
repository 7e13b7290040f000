package web_test

import (
	"strings"
	"testing"

	"lambent/client"
	"lambent/server/servertest"
)

const page = "https://shop.example"

// CORS is answered for the function where its URL has it configured; pre-flights
// never reach the code.
func TestCORS(t *testing.T) {
	s := servertest.Start(t)
	deploy := func(name string, c *client.CORS) {
		s.Python(t, name, "def handler(event, context):\n    return event['requestContext']['http']['method']\n",
			func(r *client.DeployRequest) { r.URL.CORS = c })
	}
	deploy("any", &client.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"GET", "PUT"}})
	deploy("one", &client.CORS{
		AllowOrigins: []string{page, "http://localhost:5173"}, AllowMethods: []string{"*"}, AllowHeaders: []string{"x-key", "authorization"},
		ExposeHeaders: []string{"x-a", "x-b"}, AllowCredentials: true, MaxAgeMS: 600_000,
	})
	deploy("none", nil)
	for _, c := range []struct {
		function, method, origin string
		request                  string // the method that a pre-flight asks for
		want                     map[string]string
		body                     string // "" of a pre-flight that was answered without the code
	}{
		{"any", "GET", page, "", map[string]string{"Access-Control-Allow-Origin": "*"}, "GET"},
		{"any", "OPTIONS", page, "PUT", map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET,PUT"}, ""},
		{"any", "GET", "", "", nil, "GET"},
		{"any", "OPTIONS", page, "", map[string]string{"Access-Control-Allow-Origin": "*"}, "OPTIONS"}, // not a pre-flight
		{"one", "POST", page, "", map[string]string{
			"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "x-a,x-b",
		}, "POST"},
		{"one", "OPTIONS", page, "DELETE", map[string]string{
			"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "x-a,x-b",
			"Access-Control-Allow-Methods": "*", "Access-Control-Allow-Headers": "x-key,authorization", "Access-Control-Max-Age": "600",
		}, ""},
		{"one", "GET", "https://evil.example", "", nil, "GET"},
		{"one", "OPTIONS", "https://evil.example", "PUT", nil, ""},
		{"one", "GET", "null", "", nil, "GET"},
		{"one", "GET", page + ".evil.example", "", nil, "GET"},
		{"none", "GET", page, "", nil, "GET"},
		{"none", "OPTIONS", page, "PUT", nil, "OPTIONS"}, // the function may do it by itself
	} {
		var header []string
		if c.origin != "" {
			header = append(header, "Origin", c.origin)
		}
		if c.request != "" {
			header = append(header, "Access-Control-Request-Method", c.request, "Access-Control-Request-Headers", "x-key")
		}
		a := servertest.Do(t, s.Request(t, c.method, "/fn/"+c.function+"/", nil, header...))
		if a.StatusCode != 200 || a.Body != c.body {
			t.Errorf("%+v: %d %q", c, a.StatusCode, a.Body)
		}
		for name, v := range a.Header {
			if strings.HasPrefix(name, "Access-Control-") && c.want[name] != strings.Join(v, "|") {
				t.Errorf("%+v: %s: %s", c, name, v)
			}
		}
		for name, v := range c.want {
			if a.Header.Get(name) != v {
				t.Errorf("%+v: %s is missing: %v", c, name, a.Header)
			}
		}
		if c.function != "none" && c.origin != "" && a.Header.Get("Vary") != "Origin" {
			t.Errorf("%+v: a cache would mix up origins: %v", c, a.Header)
		}
	}
	list, err := s.Client.Invocations(t.Context(), "one", client.Period{}, 100)
	if err != nil || len(list.Invocations) != 4 {
		t.Errorf("%d invocations, %v; want 4: pre-flights do not reach the code", len(list.Invocations), err)
	}
}

// What the URL's configuration says stands, whatever the function says.
func TestCORSOfFunction(t *testing.T) {
	s := servertest.Start(t)
	s.Python(t, "f", `def handler(event, context):
    if event["rawPath"] == "/fail":
        raise ValueError
    return {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"}, "body": ""}
`, func(r *client.DeployRequest) { r.URL.CORS = &client.CORS{AllowOrigins: []string{page}} })
	for _, path := range []string{"/fn/f/", "/fn/f/fail"} {
		a := s.Get(t, path, "Origin", page)
		if got := a.Header["Access-Control-Allow-Origin"]; len(got) != 1 || got[0] != page || a.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("GET %s: %v", path, a.Header)
		}
	}
	if a := s.Get(t, "/fn/f/", "Origin", "https://evil.example"); a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin: %v", a.Header)
	}
}
