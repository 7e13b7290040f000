package server_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"lambent/server/servertest"
)

func TestMain(m *testing.M) {
	if code, is := servertest.Gateway(); is {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}
