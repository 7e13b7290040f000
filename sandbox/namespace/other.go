//go:build !linux || !(amd64 || arm64)

package namespace

import (
	"context"

	"lambent"
	"lambent/sandbox"
)

// A Driver exists on Linux only.
type Driver struct{}

var errElsewhere = lambent.Errorf(lambent.Unsupported, "namespace", "sandboxes of namespaces need Linux on amd64 or arm64")

// New returns Unsupported.
func New(Options) (*Driver, error) { return nil, errElsewhere }

// Isolation implements sandbox.Driver.
func (*Driver) Isolation() string { return "" }

// Park implements sandbox.Driver.
func (*Driver) Park(context.Context, lambent.Runtime) (sandbox.Sandbox, error) {
	return nil, errElsewhere
}

// Close implements sandbox.Driver.
func (*Driver) Close() error { return nil }
