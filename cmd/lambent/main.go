// Command lambent runs serverless functions on people's own machines: it is the
// server, and the command line that talks to one.
//
// Data goes to standard output, everything else to standard error. The exit
// status is 0 where all went well, 1 where something failed, 2 where the command
// was not understood, and 4 where the server does not allow it.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	p := &program{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// A program is one run of the command line, with all that it touches outside.
type program struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	project  string // of --project
}

// run returns the exit status.
func (p *program) run(ctx context.Context, args []string) int {
	root := rootCommand(p)
	root.AddCommand(
		initCommand(p), deployCommand(p), invokeCommand(p), listCommand(p), showCommand(p), deleteCommand(p),
		versionsCommand(p), rollbackCommand(p), aliasCommand(p), projectCommand(p), tokenCommand(p), envCommand(p),
		logsCommand(p), traceCommand(p), invocationsCommand(p), usageCommand(p), triggerCommand(p), eventsCommand(p), deadLetterCommand(p),
		runtimeCommand(p), simulateCommand(p), serveCommand(p), jailCommand(p), gatewayCommand(p), demoCommand(p), doctorCommand(p), versionCommand(p),
	)
	root.SetArgs(args)
	return p.finish(root.ExecuteContext(ctx))
}
