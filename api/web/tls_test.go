package web_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent/server"
	"lambent/server/servertest"
)

// secret starts a server with TLS, and returns what its clients are to trust.
func secret(t *testing.T) (*servertest.Server, *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
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
	s := servertest.Start(t, servertest.Plain, func(c *server.Config) {
		c.TLSCert, c.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	})
	trusted := &tls.Config{RootCAs: x509.NewCertPool()}
	trusted.RootCAs.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	s.Client.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: trusted, DisableKeepAlives: true}}
	return s, trusted
}

// With TLS it is net/http that answers, in HTTP/2 where clients speak it: bodies go both
// ways there, too, and WebSockets over HTTP/1.1.
func TestSiteWithTLS(t *testing.T) {
	s, trusted := secret(t)
	site(t, s, "node")
	for version, protocols := range map[int][]string{1: {"http/1.1"}, 2: {"h2"}} {
		c := trusted.Clone()
		c.NextProtos = protocols
		transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: version == 2, DisableCompression: true}
		defer transport.CloseIdleConnections()
		send := func(path string, body io.Reader, n int64) (*http.Response, string) {
			t.Helper()
			r := s.Request(t, "POST", "/fn/site"+path, body)
			r.ContentLength = n
			if n < 0 {
				r.Trailer = http.Header{"X-Sum": {"1"}}
			}
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatalf("HTTP/%d, %s: %v", version, path, err)
			}
			defer resp.Body.Close()
			if resp.ProtoMajor != version {
				t.Fatalf("HTTP/%d is spoken", resp.ProtoMajor)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatalf("HTTP/%d, %s: %v after %d bytes", version, path, err, len(b))
			}
			return resp, string(b)
		}
		body, sum := noise(5 << 20)
		for _, n := range []int64{5 << 20, -1} {
			_, text := send("/sum", io.NopCloser(bytes.NewReader(body)), n)
			if got := decode[summed](t, text); got.Sum != sum || n < 0 && got.Trailers["x-sum"] != "1" || n > 0 && got.Headers["content-length"] != fmt.Sprint(n) {
				t.Errorf("HTTP/%d: %+v", version, got)
			}
		}
		if _, got := send("/pipe", bytes.NewReader(body), 5<<20); got != string(body) {
			t.Errorf("HTTP/%d: %d bytes came back", version, len(got))
		}
		if resp, got := send("/trailers", strings.NewReader(""), 0); got != "body" || !slices.Equal(resp.Trailer["X-Sum"], []string{"42", "43"}) {
			t.Errorf("HTTP/%d: %q, %v", version, got, resp.Trailer)
		}
		if version == 2 { // a connection is shared, and one request's end is not its own
			if resp, got := send("/early", io.LimitReader(zeros{}, 100_000_000), 100_000_000); resp.StatusCode != 413 || got != "too much" {
				t.Errorf("HTTP/2, early: %d %q", resp.StatusCode, got)
			}
			if _, got := send("/", strings.NewReader(""), 0); !strings.Contains(got, "pid") {
				t.Errorf("HTTP/2, afterwards: %q", got)
			}
		}
	}
	c, err := tls.Dial("tcp", s.Addr(), trusted)
	if err != nil {
		t.Fatal(err)
	}
	so := openOn(t, s, c, "/fn/site/")
	so.echo(t, strings.Repeat("grüße", 100_000))
	so.send(t, isText, "bye")
	so.closes(t, 4000)
	if u := record(t, s, so.id()); u.Outcome != "ok" || u.BytesOut < 700_000 {
		t.Errorf("%+v", u)
	}
}
