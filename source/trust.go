package source

import (
	"crypto/x509"
	"errors"
)

// Untrusted is what an error of a connection is to end with, for people: what helps if whoever
// answers has a certificate of nobody that is trusted.
func Untrusted(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "; the certificates of who is to be trusted go with the trigger: --ca FILE"
	}
	return ""
}
