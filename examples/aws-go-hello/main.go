// Says hello, to a direct call and to a request to the function's URL alike.
package main

import (
	"cmp"
	"context"
	"log"
	"runtime"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// An event is what the function reads of its input. A direct call's input is the
// JSON that the caller sent; a request to the function's URL comes as JSON too
// (all of it: events.LambdaFunctionURLRequest of aws-lambda-go).
type event struct {
	Name  string            `json:"name"`
	Query map[string]string `json:"queryStringParameters"`
}

// An answer is JSON for both. To set a status or headers of the URL's answer,
// return an events.LambdaFunctionURLResponse.
type answer struct {
	Message string `json:"message"`
	Runtime string `json:"runtime"`
}

// hello runs once for each call.
func hello(ctx context.Context, e event) (answer, error) {
	name := cmp.Or(e.Name, e.Query["name"], "world")
	if call, ok := lambdacontext.FromContext(ctx); ok {
		// Whatever is logged or printed goes to the function's log.
		log.Printf("saying hello to %s in request %s", name, call.AwsRequestID)
	}
	return answer{Message: "Hello, " + name + "!", Runtime: runtime.Version()}, nil
}

func main() { lambda.Start(hello) }
