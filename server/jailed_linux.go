package server

import "lambent/sandbox/jail"

// openJailed takes the driver of a divided server: the process that makes
// sandboxes waits already. Without it the server cannot go on.
func (s *Server) openJailed() error {
	d, err := jail.Open(s.cfg.jail)
	if err != nil {
		return err
	}
	if err := s.useNamespaces(d); err != nil {
		return err
	}
	s.running.Go(func() {
		select {
		case <-d.Done():
			s.log.Error("the process that makes sandboxes is gone: the server ends")
			s.listener.Close()
		case <-s.background.Done():
		}
	})
	return nil
}
