package server

import (
	"context"

	"lambent"
	"lambent/runtimes"
	"lambent/sandbox"
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
// them. "auto" takes the best that this machine offers, and says what it did not.
func (s *Server) openDriver(context.Context) error {
	agents, err := runtimes.Install(s.path("runtimes"))
	if err != nil {
		return err
	}
	var d sandbox.Driver
	if s.cfg.Driver != driverProcess {
		d, err = namespace.New(namespace.Options{Dir: s.cfg.Data, Agents: agents, Logger: s.log})
		switch {
		case err == nil:
			s.driverName, s.agents, s.accepts = driverNamespace, namespace.AgentsInside, namespace.Accepts
		case s.cfg.Driver == driverNamespace:
			e := lambent.Errorf(lambent.Unsupported, "serve", "the driver namespace does not work here: %w", err)
			return e.WithHint("lambent doctor   (or, without isolation: lambent serve --driver process)")
		default:
			s.log.Warn("functions are not isolated: the driver namespace does not work here", "error", err)
		}
	}
	if s.driverName == "" {
		if d, err = process.New(process.Options{Dir: s.path("run")}); err != nil {
			return err
		}
		s.driverName, s.agents = driverProcess, agents
	}
	s.driver = sandbox.Guard(d)
	s.onClose("driver", d.Close)
	return nil
}
