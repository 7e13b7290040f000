package lambent

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
)

// Certificates are whom a trigger trusts that connects to a server outside, and who it is
// to that. All are PEM itself, so that nobody names a file for the server to open.
type Certificates struct {
	// CA are the certificates that the one of whoever answers is to be of, in place of those
	// that the machine trusts.
	CA string `json:"ca,omitempty"`

	Certificate string `json:"certificate,omitempty"` // who the trigger is
	Key         string `json:"key,omitempty"`         // of that; nobody is shown it
}

// maxPEM is how long each of them may be.
const maxPEM = 256 << 10

// validate checks those of a "broker" or a "database". Kind: Invalid.
func (c *Certificates) validate(whose string) error {
	for what, text := range map[string]string{"CA": c.CA, "certificate": c.Certificate, "key": c.Key} {
		if len(text) > maxPEM {
			return Errorf(Invalid, whose, "the %s's %s has %d bytes, over the limit of %d", whose, what, len(text), maxPEM)
		}
	}
	if strings.Contains(c.CA+"\n"+c.Certificate, "PRIVATE KEY-----") { // certificates are shown to whoever may see the trigger
		return Errorf(Invalid, whose, "the %s's certificates have a private key beside them, which goes alone, as the key", whose).
			WithHint("sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' FILE > certificate.pem")
	}
	if c.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.CA)) {
		return Errorf(Invalid, whose, "the %s's CA has no certificate: it is PEM, which begins with -----BEGIN CERTIFICATE-----", whose)
	}
	if c.Certificate+c.Key != "" {
		if _, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key)); err != nil { // which names neither
			return Errorf(Invalid, whose, "the %s's certificate and key are none, or not of each other: both are PEM (%s)", whose, strings.TrimPrefix(err.Error(), "tls: "))
		}
	}
	return nil
}

// TLSConfig is for connections to a host. Certificates that are not valid are an error.
func (c *Certificates) TLSConfig(host string) (*tls.Config, error) {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM([]byte(c.CA))
	}
	if c.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key))
		if err != nil {
			return nil, Errorf(Invalid, "tls", "the certificate or its key cannot be used")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
