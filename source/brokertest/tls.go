package brokertest

import (
	"strings"
	"testing"

	"lambent"
	"lambent/source"
	"lambent/source/databasetest"
)

// NewPair makes a certificate that this process trusts from then on, if it has not looked at
// whom it trusts before.
func NewPair(t testing.TB) *databasetest.Pair {
	t.Helper()
	p := databasetest.NewPair(t)
	t.Setenv("SSL_CERT_FILE", p.CertificateFile)
	return p
}

// TestTLS has a broker checked whose server has a certificate that no machine trusts, and
// wants who connects to have it, too.
func TestTLS(t *testing.T, s source.Source, b lambent.Broker, pair *databasetest.Pair) {
	t.Helper()
	for _, c := range []struct {
		name         string
		certificates lambent.Certificates
		want         string // empty: it may
	}{
		{"both", pair.Certificates, ""},
		{"another's", lambent.Certificates{CA: databasetest.NewPair(t).CA, Certificate: pair.Certificate, Key: pair.Key}, "--ca FILE"},
		{"nobody", lambent.Certificates{CA: pair.CA}, "certificate"},
	} {
		b.Certificates = c.certificates
		err := s.Check(NewTrigger(b))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
