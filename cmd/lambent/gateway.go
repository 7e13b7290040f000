package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"lambent/server"
)

const gatewayHelp = `Keep the buckets of one project: "lambent serve" starts this by itself. It ends with
the server.`

func gatewayCommand(*program) *cobra.Command {
	return &cobra.Command{
		Use: "gateway DIR", Short: "Keep the buckets of a project", Long: gatewayHelp, Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			// What ends the server ends this, and not before: it has uploads to finish.
			signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			return server.Gateway(args, []string{"lambent", "gateway"}, os.Stdin, os.Stdout)
		},
	}
}
