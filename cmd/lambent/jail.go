package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"lambent/server"
)

const jailHelp = `Make the sandboxes of a server that was started as root: "lambent serve" starts
this by itself. It ends with the server.`

func jailCommand(p *program) *cobra.Command {
	c := &cobra.Command{Use: "jail", Short: "Make the sandboxes of a server", Long: jailHelp, Args: args(0), Hidden: true}
	data := c.Flags().String("data", "", "the server's data directory")
	c.RunE = func(*cobra.Command, []string) error {
		// What ends the server ends this, and not before: it has calls to finish.
		signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		return server.Jail(os.NewFile(3, "server"), *data, p.getenv("PATH"), slog.New(slog.NewTextHandler(p.err, nil)))
	}
	return c
}
