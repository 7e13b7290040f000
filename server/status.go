package server

// RuntimeNames returns what functions can run on, sorted. It waits until that is
// known, which may be after the server is ready.
func (s *Server) RuntimeNames() []string {
	found := s.runtimes()
	names := make([]string, len(found))
	for i, r := range found {
		names[i] = r.Name
	}
	return names
}

// InFlight returns how many calls have no answer yet.
func (s *Server) InFlight() int {
	n := s.dispatch.Snapshot()
	return n.Busy + n.Queued
}
