package rows

import (
	"fmt"
	"os"
)

const maxCertificates = 1 << 20 // bytes of a file

// Certificates reads a file of them, which whoever adds a trigger names: it may be anything.
func Certificates(path string) ([]byte, error) {
	s, err := os.Stat(path)
	if err == nil && (!s.Mode().IsRegular() || s.Size() > maxCertificates) {
		err = fmt.Errorf("%s is no file of certificates", path)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
