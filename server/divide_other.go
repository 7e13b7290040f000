//go:build !linux

package server

import (
	"log/slog"
	"os"

	"lambent"
)

// Divide does nothing where there is no jail.
func Divide(*Config, []string, []string) error { return nil }

// Jail is for Linux.
func Jail(*os.File, string, string, *slog.Logger) error {
	return lambent.Errorf(lambent.Unsupported, "jail", "this is for Linux")
}

func (s *Server) openJailed() error {
	return lambent.Errorf(lambent.Unsupported, "jail", "this is for Linux")
}
