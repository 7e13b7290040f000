package databasetest

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
	"regexp"
	"strings"
	"testing"
	"time"

	"lambent"
)

// A Pair is a certificate for 127.0.0.1, which is its own authority, and its key: files for
// a server, and what a trigger has that trusts it and is it.
type Pair struct {
	CertificateFile, KeyFile string
	lambent.Certificates
}

// NewPair makes one.
func NewPair(t testing.TB) *Pair {
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
	dir, err := directory()
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	p := &Pair{filepath.Join(dir, "certificate"), filepath.Join(dir, "key"), lambent.Certificates{Certificate: text("CERTIFICATE", der), Key: text("PRIVATE KEY", secret)}}
	p.CA = p.Certificate
	err = errors.Join(os.WriteFile(p.CertificateFile, []byte(p.Certificate), 0o644), os.WriteFile(p.KeyFile, []byte(p.Key), 0o600))
	if err == nil && os.Getuid() == 0 {
		err = os.Chown(p.KeyFile, nobody, nobody) // which some servers insist on
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Whoever has certificates is sure of whom the database is, and is somebody to it.
func testTLS(t *testing.T, k Kind) {
	pair, other := NewPair(t), NewPair(t)
	s := k.Secure(t, pair)
	db := s.Database(t, `CREATE TABLE t (id int PRIMARY KEY)`)
	certified, anybody := s.URLOf("certified", db), s.URL(db)
	elsewhere := strings.Replace(anybody, "127.0.0.1", "localhost", 1)
	ca, wrong := lambent.Certificates{CA: pair.CA}, lambent.Certificates{CA: other.CA}
	required, authority := "?"+k.Modes[0], "?"+k.Modes[1]
	for _, c := range []struct {
		name         string
		url          string
		certificates lambent.Certificates
		want         string // a pattern; empty: it may
	}{
		{"nothing is said", anybody, lambent.Certificates{}, ""},
		{"its authority", anybody, ca, ""},
		{"another's", anybody, wrong, "certificate signed by unknown authority.*--ca FILE"},
		{"for another host", elsewhere, ca, "match localhost"},
		{"whatever the host", elsewhere + authority, ca, ""},
		{"of another's, whatever the host", elsewhere + authority, wrong, "certificate signed by unknown authority.*--ca FILE"},
		{"TLS, and its authority", elsewhere + required, ca, ""},
		{"TLS, and another's", elsewhere + required, wrong, "certificate signed by unknown authority.*--ca FILE"},
		{"TLS", elsewhere + required, lambent.Certificates{}, ""},
		{"that the machine trusts", anybody + authority, lambent.Certificates{}, "certificate signed by unknown authority.*--ca FILE"},

		{"somebody", certified, pair.Certificates, ""},
		{"somebody with anybody", certified + required, lambent.Certificates{Certificate: pair.Certificate, Key: pair.Key}, ""},
		{"nobody", certified, ca, "refuses the connection"},
		{"somebody else", certified, lambent.Certificates{CA: pair.CA, Certificate: other.Certificate, Key: other.Key}, "unknown certificate authority|reset by peer|broken pipe"},
	} {
		err := k.Source().Check(NewTrigger(lambent.Database{URL: c.url, Tables: []string{"t"}, Certificates: c.certificates}))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !regexp.MustCompile(c.want).MatchString(err.Error())) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	w := k.watch(t, lambent.Database{URL: certified, Tables: []string{"t"}, Certificates: pair.Certificates, Snapshot: true})
	s.Exec(t, db, `INSERT INTO t VALUES (1)`)
	w.Wait(1)

	// One that was kept when files could be named says why it does not run, and goes on without.
	w.Stop()
	w.Trigger.Database.URL += "?sslrootcert=/etc/passwd"
	w.Start()
	Until(t, "it is refused", func() bool { err := w.Failure(); return err != nil && strings.Contains(err.Error(), "--ca FILE") })
	w.Stop()
	w.Trigger.Database.URL = certified
	w.Start()
	s.Exec(t, db, `INSERT INTO t VALUES (2)`)
	w.Wait(2)
}
