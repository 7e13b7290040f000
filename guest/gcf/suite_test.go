package gcf_test

import (
	"os"
	"path/filepath"
	"testing"

	"lambent"
	"lambent/guest/guesttest"
	"lambent/guest/platformtest"
)

// words are those of Cloud Run.
var words = guesttest.Words{
	Timeout:   guesttest.Said{Type: "DEADLINE_EXCEEDED", Message: "reached the maximum request timeout"},
	ExitZero:  guesttest.Said{Type: "UNAVAILABLE", Message: "Container called exit(0)"},
	ExitThree: guesttest.Said{Type: "UNAVAILABLE", Message: "Container called exit(3)"},
	Killed:    guesttest.Said{Type: "UNAVAILABLE", Message: "Container terminated on signal: killed"},
	Memory:    guesttest.Said{Type: "RESOURCE_EXHAUSTED", Message: "MiB exceeded"},
	Broken:    guesttest.Said{Type: "UNAVAILABLE"},
}

// TestSuite runs the suite of all guests with a web server.
func TestSuite(t *testing.T) {
	each(t, func(t *testing.T, p *platformtest.Platform) {
		code := filepath.Join(platformtest.PublicDir(t), "code")
		if err := os.CopyFS(code, os.DirFS(filepath.Join("..", "guesttest", "testdata", "server"))); err != nil {
			t.Fatal(err)
		}
		guesttest.Run(t, guesttest.Language{
			Name: "server", Runtime: p.Newest(t, "google-nodejs"), Stream: "stream", Code: code, Several: true, Server: true, Words: words,
			ErrorType: "Status 500", InitErrorType: "UNAVAILABLE",
		}, func(t *testing.T, c lambent.Config) guesttest.Platform {
			c.Handler, c.Command = "", []string{"node", "server.mjs"}
			return p.Deploy(t, c)
		})
	})
}
