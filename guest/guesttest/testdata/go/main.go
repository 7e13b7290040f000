// The function of the guest suite, with the unmodified aws-lambda-go: does what
// the event says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do    string          `json:"do"`
	Value json.RawMessage `json:"value"`
	Names []string        `json:"names"`
	MS    int             `json:"ms"`
	N     int             `json:"n"`
	Code  int             `json:"code"`
	Bytes int             `json:"bytes"`
	Fail  bool            `json:"fail"`

	events.LambdaFunctionURLRequest
}

// OutOfCheese is an error type of the function's own.
type OutOfCheese struct{}

func (OutOfCheese) Error() string { return "redo from start" }

func handle(ctx context.Context, e event) (any, error) {
	switch e.Do {
	case "echo":
		return e.Value, nil
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		return map[string]any{
			"requestId": lc.AwsRequestID, "arn": lc.InvokedFunctionArn,
			"name": lambdacontext.FunctionName, "version": lambdacontext.FunctionVersion,
			"memoryMB": lambdacontext.MemoryLimitInMB, "logGroup": lambdacontext.LogGroupName,
			"remainingMS": time.Until(deadline).Milliseconds(),
		}, nil
	case "env":
		env := map[string]*string{}
		for _, n := range e.Names {
			env[n] = nil
			if v, ok := os.LookupEnv(n); ok {
				env[n] = &v
			}
		}
		return env, nil
	case "error":
		return nil, errors.New("that went wrong")
	case "custom":
		return nil, OutOfCheese{}
	case "sleep":
		fmt.Println("sleeping")
		time.Sleep(time.Duration(e.MS) * time.Millisecond)
		return "slept", nil
	case "exit":
		os.Exit(e.Code)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hog":
		for keep := [][]byte{}; ; time.Sleep(10 * time.Millisecond) {
			b := make([]byte, 8<<20)
			for i := range b {
				b[i] = 1
			}
			keep = append(keep, b)
		}
	case "grow":
		return strings.Repeat("x", e.Bytes), nil
	case "size":
		var s string
		if err := json.Unmarshal(e.Value, &s); err != nil {
			return nil, err
		}
		return map[string]int{"bytes": len(s)}, nil
	case "log":
		fmt.Println("to stdout: grüße")
		fmt.Fprintln(os.Stderr, "to stderr")
		return "logged", nil
	case "tell":
		lc, _ := lambdacontext.FromContext(ctx)
		for i := range e.N {
			fmt.Printf("%s told %d\n", lc.AwsRequestID, i)
			time.Sleep(time.Duration(e.MS) * time.Millisecond)
		}
		return "told", nil
	case "":
		return events.LambdaFunctionURLResponse{
			StatusCode: 201, Cookies: []string{"a=1", "b=2"}, Body: e.Body, IsBase64Encoded: true,
			Headers: map[string]string{"x-method": e.RequestContext.HTTP.Method, "content-type": "application/octet-stream"},
		}, nil
	}
	return nil, fmt.Errorf("do what? %+v", e)
}

func stream(_ context.Context, e event) (any, error) {
	r, w := io.Pipe()
	go func() {
		for i := range 3 {
			fmt.Fprintf(w, "part %d\n", i)
			time.Sleep(20 * time.Millisecond)
		}
		if e.Fail {
			w.CloseWithError(OutOfCheese{})
			return
		}
		w.Close()
	}()
	if e.RequestContext.HTTP.Method != "" {
		return &events.LambdaFunctionURLStreamingResponse{
			StatusCode: 203, Headers: map[string]string{"x-stream": "yes"}, Cookies: []string{"a=1"}, Body: r,
		}, nil
	}
	return r, nil
}

func main() {
	if os.Getenv("FAIL_INIT") != "" {
		log.Fatal("no start today")
	}
	if os.Getenv("_HANDLER") == "stream" {
		lambda.Start(stream)
	}
	lambda.Start(handle)
}
