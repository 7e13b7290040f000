package server_test

import (
	"net/http"
	"os"
	"testing"
	"time"

	"lambent/server"
	"lambent/server/servertest"
)

// After a function in Python has been started once it is loaded compiled, and that of
// an earlier server is found again. No test that forks may be beside it: a child has the lock
// of the data directory until it is executed.
func TestByteCode(t *testing.T) {
	for _, driver := range []string{"namespace", "process"} {
		t.Run(driver, func(t *testing.T) {
			if driver == "namespace" && os.Geteuid() != 0 {
				servertest.Missing(t, "the driver namespace needs Linux and root")
			}
			data := servertest.PublicDir(t)
			for range 2 {
				s := servertest.Start(t, func(cfg *server.Config) {
					cfg.Driver, cfg.Data, cfg.KeepAlive = driver, data, new(time.Duration(0))
				})
				s.Python(t, "f", "import os\n\ndef handler(event, context):\n    return os.path.exists(__cached__) and __file__.endswith('/app.py')\n")
				for deadline := time.Now().Add(time.Minute); ; {
					a := s.Get(t, "/fn/f/")
					if a.StatusCode != http.StatusOK {
						t.Fatalf("status %d: %s", a.StatusCode, a.Body)
					}
					if string(a.Body) == "true" {
						break
					}
					if time.Now().After(deadline) {
						t.Fatal("it is still compiled at each start")
					}
				}
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
