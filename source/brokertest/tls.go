package brokertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/source"
)

// Certificate makes one for 127.0.0.1, which this process trusts from then on if it has not
// looked at whom it trusts before.
func Certificate(t testing.TB) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "brokertest") // where whoever a server runs as may look
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	certificate, key = filepath.Join(dir, "certificate"), filepath.Join(dir, "key")
	err = errors.Join(os.Chmod(dir, 0o755),
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", certificate)
	return certificate, key
}

// TestTLS has a broker checked whose server has a certificate that no machine trusts, as that
// of its files, and wants who connects to have it, too.
func TestTLS(t *testing.T, s source.Source, b lambent.Broker, certificate, key string) {
	t.Helper()
	read := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	other, _ := Certificate(t)
	for _, c := range []struct {
		name, ca, certificate, key string
		want                       string // empty: it may
	}{
		{"both", read(certificate), read(certificate), read(key), ""},
		{"another's", read(other), read(certificate), read(key), "certificate"},
		{"nobody", read(certificate), "", "", "certificate"},
	} {
		b.CA, b.Certificate, b.Key = c.ca, c.certificate, c.key
		err := s.Check(NewTrigger(b))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
