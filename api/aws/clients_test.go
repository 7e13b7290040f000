package aws_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"lambent/client"
	"lambent/server/servertest"
)

// AWS's clients, unmodified, as their users have them.

// clients returns what runs AWS's clients in Python: the interpreter and the environment.
func clients(t testing.TB, s *servertest.Server, k *client.NewToken, which string) (python string, env []string) {
	t.Helper()
	installed, _ := filepath.Glob("../../.venv/" + which + "-[0-9]*[0-9]")
	if len(installed) == 0 {
		servertest.Missing(t, "AWS's SDK for Python and its command line: tools/setup.sh test installs them")
	}
	path, err := filepath.Abs(installed[0])
	if err != nil {
		t.Fatal(err)
	}
	python, err = filepath.Abs("../../.venv/bin/python3")
	if err != nil {
		t.Fatal(err)
	}
	return python, append(os.Environ(), "PYTHONPATH="+path, "PYTHONDONTWRITEBYTECODE=", "AWS_ENDPOINT_URL="+s.URL(), "AWS_DEFAULT_REGION=us-east-1", "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID="+k.ID, "AWS_SECRET_ACCESS_KEY="+k.Secret, "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER=", "HOME="+t.TempDir())
}

// boto3 runs a script, which has boto3, and returns what it prints.
func boto3(t testing.TB, s *servertest.Server, k *client.NewToken, script string) string {
	t.Helper()
	return boto3Of(t, s, k, "aws-clients", script)
}

// boto3Of is boto3 of one of those that tools/setup.sh installs.
func boto3Of(t testing.TB, s *servertest.Server, k *client.NewToken, which, script string) string {
	t.Helper()
	python, env := clients(t, s, k, which)
	cmd := exec.CommandContext(t.Context(), python, "-c", "import boto3, json\nfrom botocore.exceptions import ClientError\n"+script)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// awscli runs AWS's command line, and returns what it prints.
func awscli(t testing.TB, s *servertest.Server, k *client.NewToken, args ...string) (string, error) {
	t.Helper()
	python, env := clients(t, s, k, "aws-clients")
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-m", "awscli", "--output", "json"}, args...)...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// gosdk is the configuration of AWS's SDK for Go.
func gosdk(s *servertest.Server, k *client.NewToken) awssdk.Config {
	return awssdk.Config{
		Region: "us-east-1", BaseEndpoint: new(s.URL()), HTTPClient: s.Client.HTTP, RetryMaxAttempts: 1,
		Credentials: awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
			return awssdk.Credentials{AccessKeyID: k.ID, SecretAccessKey: k.Secret}, nil
		}),
	}
}
