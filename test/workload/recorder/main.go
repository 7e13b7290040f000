// Command recorder is the function that a workload's events invoke: it tells what it got to who
// listens at $RECORDER, and has failed if nobody does. It answers with its number, $N.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

func main() {
	lambda.Start(func(ctx context.Context, event json.RawMessage) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("RECORDER"), bytes.NewReader(event))
		if err != nil {
			return "", err
		}
		if c, ok := lambdacontext.FromContext(ctx); ok {
			req.Header.Set("Request-Id", c.AwsRequestID)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("not recorded: %s", resp.Status)
		}
		return os.Getenv("N"), nil
	})
}
