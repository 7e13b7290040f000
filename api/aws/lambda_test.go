package aws_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent/client"
	"lambent/server/servertest"
)

// Functions are called by AWS's SDK for Python and its command line.
func TestInvokeByAWSClients(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	s.Python(t, "echo", `
def handler(event, context):
    print("hello from", context.aws_request_id)
    if event == "fail":
        raise ValueError("no")
    return [event, context.function_version, context.client_context and context.client_context.custom]
`)
	s.Python(t, "stopped", "def handler(event, context): pass\n", func(r *client.DeployRequest) {
		r.Scaling = &client.ScalingRequest{Reserved: new(0)}
	})
	key, err := s.Client.CreateToken(t.Context(), client.TokenRequest{Kind: "access_key", Role: "invoke"})
	if err != nil {
		t.Fatal(err)
	}
	out := boto3(t, s, key, `
import base64
c = boto3.client("lambda")
def call(**args):
    r = c.invoke(**args)
    print(r["StatusCode"], r.get("FunctionError"), r.get("ExecutedVersion"), r["Payload"].read().decode(), "hello from" in base64.b64decode(r.get("LogResult", "")).decode())
call(FunctionName="echo", Payload=b'{"a": 1}')
call(FunctionName="arn:aws:lambda:eu-west-1:123456789012:function:echo:$LATEST", Payload=b'1', LogType="Tail", ClientContext=base64.b64encode(b'{"custom": {"x": "y"}}').decode())
call(FunctionName="echo", Qualifier="$LATEST", Payload=b'"fail"', LogType="Tail")
call(FunctionName="echo", InvocationType="Event", Payload=b'2')
def fails(**args):
    try:
        c.invoke(**args)
    except ClientError as e:
        print(e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"])
fails(FunctionName="gone")
fails(FunctionName="echo:1", Qualifier="2")
fails(FunctionName="echo", InvocationType="Event", Payload=b'"' + b"x" * 1100000 + b'"')
fails(FunctionName="echo", InvocationType="DryRun")
import botocore.config
try:
    boto3.client("lambda", config=botocore.config.Config(retries={"max_attempts": 0})).invoke(FunctionName="stopped")
except ClientError as e:
    r = e.response
    print(r["Error"]["Code"], r["ResponseMetadata"]["HTTPStatusCode"], r["retryAfterSeconds"], r["Reason"])
try:
    c.list_functions()
except ClientError as e:
    print(e.response["Error"]["Code"])
`)
	want := `200 None $LATEST [{"a": 1}, "$LATEST", null] False
200 None $LATEST [1, "$LATEST", {"x": "y"}] True
200 Unhandled $LATEST {"errorMessage": "no", "errorType": "ValueError"`
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if !strings.HasPrefix(out, want) || len(lines) != 10 || !strings.HasSuffix(lines[2], " True") || strings.Join(lines[3:], "|") !=
		"202 None None  False|ResourceNotFoundException 404|InvalidParameterValueException 400|RequestTooLargeException 413|InvalidParameterValueException 400|TooManyRequestsException 429 60 ReservedFunctionConcurrentInvocationLimitExceeded|NotImplemented" {
		t.Errorf("boto3 prints:\n%s", out)
	}
	file := filepath.Join(t.TempDir(), "out")
	if out, err := awscli(t, s, key, "lambda", "invoke", "--function-name", "echo", "--endpoint-url", s.URL(), "--payload", `{"b":2}`, file); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if b, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(b), `[{"b": 2}`) {
		t.Errorf("AWS's command line is answered %s, %v", b, err)
	}
}
