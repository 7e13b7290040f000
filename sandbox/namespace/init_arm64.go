//go:build linux

package namespace

import _ "embed"

//go:embed init/init-arm64
var initProgram []byte
