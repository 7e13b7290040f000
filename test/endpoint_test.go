package test

import (
	"path/filepath"
	"strings"
	"testing"

	"lambent/client"
	"lambent/test/daemon"
)

// signs publishes an event by what a function finds in its environment, with nothing but what its interpreter has.
const signs = `import datetime, hashlib, hmac, json, os, urllib.request

def mac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()

def handler(event, context):
    url = os.environ["AWS_ENDPOINT_URL"]
    body = json.dumps({"Entries": [{"Source": "shop", "DetailType": "order", "Detail": "{}"}]})
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    sent = {"content-type": "application/x-amz-json-1.1", "host": url[len("http://"):], "x-amz-date": at,
            "x-amz-security-token": os.environ["AWS_SESSION_TOKEN"], "x-amz-target": "AWSEvents.PutEvents"}
    names, scope = ";".join(sent), at[:8] + "/" + os.environ["AWS_REGION"] + "/events/aws4_request"
    request = "\n".join(["POST", "/", "", *(k + ":" + v for k, v in sent.items()), "", names, hashlib.sha256(body.encode()).hexdigest()])
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope.split("/"):
        key = mac(key, part)
    signature = mac(key, "\n".join(["AWS4-HMAC-SHA256", at, scope, hashlib.sha256(request.encode()).hexdigest()])).hex()
    sent["Authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (os.environ["AWS_ACCESS_KEY_ID"], scope, names, signature)
    return json.load(urllib.request.urlopen(urllib.request.Request(url, body.encode(), sent), timeout=10))["FailedEntryCount"]
`

// The endpoint of a sandbox that another process has made, as a server has them that was
// started as root. Each call has a sandbox of its own, in a network that others had before.
func TestEndpoint(t *testing.T) {
	t.Parallel()
	d := daemon.Start(t, filepath.Join(daemon.Dir(t), "data"), "--keep-alive", "0")
	r := python(upload(t, d, "app.py", signs), 0)
	r.MemoryMB = new(512)
	if _, err := d.Deploy(t.Context(), "signs", r, nil); err != nil {
		t.Fatal(err)
	}
	const calls = 20
	for range calls {
		if answer, o, err := invoke(t.Context(), d, "signs", "{}"); err != nil || strings.TrimSpace(answer) != "0" {
			t.Fatalf("%s: %+v, %v", answer, o, err)
		}
	}
	if list, err := d.Events(t.Context(), client.ReplayRequest{Selection: client.Selection{Source: "shop"}}, 100); err != nil || len(list) != calls {
		t.Errorf("%d events, %v", len(list), err)
	}
}
