package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent/server"
	"lambent/server/servertest"
)

var update = flag.Bool("update", false, "rewrite testdata")

func TestPrintRoutes(t *testing.T) {
	var got bytes.Buffer
	if err := server.PrintRoutes(&got); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "routes.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the routes are\n%s\nand were\n%s\n(-update accepts them)", got.Bytes(), want)
	}
}

func TestRoutes(t *testing.T) {
	s := servertest.Start(t)
	for _, c := range []struct {
		method, path string
		header       []string
		status       int
		body         string
	}{
		{"GET", "/healthz", nil, 200, "ok\n"},
		{"GET", "/readyz", nil, 200, "ready\n"},
		{"GET", "/", nil, 200, "lambent dev: serverless functions on this machine"},
		{"GET", "/favicon.ico", nil, 404, "404 page not found"},
		{"GET", "/v1/functions", []string{"Authorization", "Bearer " + s.Token}, 200, `{"functions":[]}`},
		{"GET", "/2015-03-31/functions/", []string{"Authorization", "AWS4-HMAC-SHA256 Credential=a"}, 400, `"__type":"IncompleteSignatureException"`},
		{"GET", "/bucket/key?X-Amz-Signature=0", nil, 400, `"__type":"IncompleteSignatureException"`},
		{"GET", "/fn/nothing/", nil, 403, "there is no function URL here"},
	} {
		a := servertest.Do(t, s.Request(t, c.method, c.path, nil, c.header...))
		if a.StatusCode != c.status || !strings.HasPrefix(a.Body, c.body) && !strings.Contains(a.Body, c.body) {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, a.StatusCode, a.Body, c.status, c.body)
		}
	}
}

// TestTLS is a server that other machines may reach.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"box.lan", "*.fn.box.lan"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := servertest.Start(t, func(c *server.Config) {
		c.Listen, c.TLSCert, c.TLSKey, c.Hosts = "0.0.0.0:0", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), []string{"box.lan"}
	})
	if want := "https://127.0.0.1:" + s.Port(); s.URL() != want {
		t.Errorf("its URL is %s, want %s", s.URL(), want)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	s.Client.HTTP = &http.Client{Transport: transport}
	f := s.Python(t, "hello", hello)
	if want := "https://hello.fn.box.lan:" + s.Port() + "/"; f.URL.Href != want {
		t.Errorf("the function's URL is %s, want %s", f.URL.Href, want)
	}
	for _, host := range []string{"hello.fn.box.lan", "hello.fn.localhost"} {
		resp, err := transport.RoundTrip(s.Request(t, "GET", "/", nil, "Host", host))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Errorf("Host %s: %s %s", host, resp.Proto, resp.Status)
		}
	}
}
