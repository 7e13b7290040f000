package web_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"lambent"
	"lambent/client"
	"lambent/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with the event that it got.
const echo = `import json
def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(event)}
`

// deployGo builds and deploys the function of a folder of testdata.
func deployGo(t *testing.T, s *servertest.Server, name, folder string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bootstrap")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", file, "./"+filepath.Join("testdata", folder))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Deploy(t.Context(), t, name, servertest.Files{"bootstrap*": string(b)}, client.DeployRequest{
		Runtime: new("provided.al2023"), URL: &client.URLRequest{Policy: new(lambent.URLPublic)},
	}); err != nil {
		t.Fatal(err)
	}
}
