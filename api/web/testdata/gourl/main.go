// A function behind a URL as one writes it for AWS: it answers with what it was
// asked, through the types of aws-lambda-go.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func handle(_ context.Context, r events.LambdaFunctionURLRequest) (events.LambdaFunctionURLResponse, error) {
	b, err := json.Marshal(r)
	return events.LambdaFunctionURLResponse{
		StatusCode: 201, Headers: map[string]string{"content-type": "application/json", "x-go": "1"},
		Cookies: []string{"a=1", "b=2"}, Body: base64.StdEncoding.EncodeToString(b), IsBase64Encoded: true,
	}, err
}

func main() { lambda.Start(handle) }
