package server

import (
	"context"
	"errors"
	"os"
	"runtime"

	"lambent"
	"lambent/runtimes"
	"lambent/sandbox"
	"lambent/sandbox/names"
	"lambent/sandbox/namespace"
	"lambent/sandbox/process"
)

// The drivers that --driver names.
const (
	driverAuto      = "auto"
	driverNamespace = "namespace"
	driverProcess   = "process"
)

// openDriver starts what isolates functions, and puts the agents where it shows
// them. "auto" isolates where the server is root on Linux, or the server does not start:
// a failure that may pass is no reason to run strangers' code as root. Elsewhere
// nothing isolates, which the log says.
func (s *Server) openDriver(context.Context) error {
	if s.cfg.jail != nil {
		return s.openJailed()
	}
	agents, err := runtimes.Install(s.path("runtimes"))
	if err != nil {
		return err
	}
	if s.cfg.Driver != driverProcess {
		d, err := namespace.New(namespace.Options{Dir: s.cfg.Data, Agents: agents, Logger: s.log})
		if err == nil {
			return s.useNamespaces(d)
		}
		if s.cfg.Driver == driverNamespace || runtime.GOOS == "linux" && os.Geteuid() == 0 {
			return noNamespaces(err)
		}
		s.log.Warn("functions are not isolated: the driver namespace does not work here", "error", err)
	}
	d, err := process.New(process.Options{Dir: s.path("run")})
	if err != nil {
		return err
	}
	s.useDriver(d, driverProcess, agents)
	return nil
}

// useNamespaces uses the driver namespace, whichever process it is in. What
// functions ask for names is read in this one.
func (s *Server) useNamespaces(d sandbox.Driver) error {
	named, err := names.New(d, names.Options{Logger: s.log})
	if err != nil {
		return errors.Join(err, d.Close())
	}
	s.accepts = namespace.Accepts
	s.useDriver(named, driverNamespace, namespace.AgentsInside)
	return nil
}

func (s *Server) useDriver(d sandbox.Driver, name, agents string) {
	s.driver, s.driverName, s.agents = sandbox.Guard(d), name, agents
	s.onClose("driver", d.Close)
}

func noNamespaces(err error) error {
	return lambent.Errorf(lambent.Unsupported, "serve", "the driver namespace does not work here: %w", err).
		WithHint("lambent doctor   (or, without isolation: lambent serve --driver process)")
}
