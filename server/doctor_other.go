//go:build !linux

package server

// hostFindings has nothing to tell: the process driver needs no kernel features.
func hostFindings(string) []Finding { return nil }
