//go:build linux

package namespace

import _ "embed"

//go:embed init/init-amd64
var initProgram []byte
