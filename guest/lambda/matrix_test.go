package lambda_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	_ "github.com/aws/aws-lambda-go/lambda" // of the suite's function in testdata, where go mod tidy does not look

	"lambent/guest/guesttest"
	"lambent/guest/platformtest"
)

// tree copies the suite's function to where every user can read it.
func tree(t *testing.T, language string) string {
	t.Helper()
	dir := filepath.Join(platformtest.PublicDir(t), "code")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "guesttest", "testdata", language))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMatrix(t *testing.T) {
	t.Parallel()
	for driver := range platformtest.Drivers {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			matrix(t, platformtest.New(t, driver))
		})
	}
}

// TestMatrixParked runs the suite in sandboxes that were parked.
func TestMatrixParked(t *testing.T) {
	t.Parallel()
	p := platformtest.New(t, "namespace")
	p.Parked = 4
	matrix(t, p)
}

// matrix runs the suite in every language, beside each other: most of it waits.
func matrix(t *testing.T, p *platformtest.Platform) {
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		guesttest.Run(t, guesttest.Language{
			Name: "python", Runtime: p.Newest(t, "python"), Handler: "app.handler", Code: tree(t, "python"),
			ErrorType: "ValueError", InitErrorType: "RuntimeError", Several: true,
		}, p.Deploy)
	})
	t.Run("nodejs", func(t *testing.T) {
		t.Parallel()
		guesttest.Run(t, guesttest.Language{
			Name: "nodejs", Runtime: p.Newest(t, "nodejs"), Handler: "app.handler", Stream: "app.stream", Code: tree(t, "nodejs"),
			ErrorType: "TypeError", InitErrorType: "RangeError", Several: true,
		}, p.Deploy)
	})
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		code := filepath.Join(platformtest.PublicDir(t), "code")
		cmd := exec.Command("go", "build", "-o", filepath.Join(code, "bootstrap"), "../guesttest/testdata/go")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		guesttest.Run(t, guesttest.Language{
			Name: "go", Runtime: "provided.al2023", Handler: "bootstrap", Stream: "stream", Code: code,
			ErrorType: "errorString", InitErrorType: "Runtime.ExitError", Several: true,
		}, p.Deploy)
	})
	t.Run("shell", func(t *testing.T) {
		t.Parallel()
		for _, tool := range []string{"bash", "curl"} {
			if _, err := exec.LookPath(tool); err != nil {
				platformtest.Missing(t, tool+" is not installed")
			}
		}
		guesttest.Run(t, guesttest.Language{
			Name: "shell", Runtime: "provided", Handler: "bootstrap", Stream: "stream", Code: tree(t, "shell"),
			ErrorType: "ShellError", InitErrorType: "Shell.NoStart",
		}, p.Deploy)
	})
}
