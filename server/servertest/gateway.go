package servertest

import (
	"fmt"
	"os"

	"lambent/server"
)

// gatewayVerb is the argument with which the program of tests is a gateway of buckets.
const gatewayVerb = "gateway-of-tests"

// gatewayProgram is how it is run; without a call of Gateway it is not: the package has no buckets.
var gatewayProgram = []string{"/nonexistent"}

// Gateway has the servers of a package's tests keep buckets. Its TestMain calls it first: if
// is, the program was started for that, has done it, and is to exit with the code.
func Gateway() (code int, is bool) {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	if len(os.Args) > 1 && os.Args[1] == gatewayVerb {
		if err := server.Gateway(os.Args[2:], []string{self, gatewayVerb}, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1, true
		}
		return 0, true
	}
	gatewayProgram = []string{self, gatewayVerb}
	return 0, false
}
