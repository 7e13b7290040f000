//go:build !linux

package names

import (
	"lambent"
	"lambent/sandbox"
)

// New returns Unsupported: no driver has such sockets elsewhere.
func New(sandbox.Driver, Options) (sandbox.Driver, error) {
	return nil, lambent.Errorf(lambent.Unsupported, "names", "this is for Linux")
}
