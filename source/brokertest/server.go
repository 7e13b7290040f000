package brokertest

import (
	"sync"
	"testing"

	"lambent"
	"lambent/source/databasetest"
)

// A Server is a broker's, in a process of its own. Its methods are called one at a time, but
// Send concurrently.
type Server interface {
	databasetest.Process

	// Topic makes a new one, as a trigger has it.
	Topic(testing.TB) lambent.Broker

	// Send has the broker acknowledge messages, one after the other; keys are such as "a",
	// and count where the broker has some.
	Send(b lambent.Broker, messages ...Message) error
}

// A Message is what is sent.
type Message struct{ Key, Value string }

// A Program is what servers of one broker run.
type Program[S Server] struct {
	missing func() string     // what is to be installed; empty: it is there
	create  func() (S, error) // one that was not started yet
	shared  func() (S, error)
}

func program[S Server](missing func() string, create func() (S, error)) *Program[S] {
	return &Program[S]{missing, create, sync.OnceValues(func() (S, error) {
		s, err := create()
		return s, databasetest.Share(s, err)
	})}
}

// Shared is a server for all of a package's tests, which is to have Main, or skips the test.
func (p *Program[S]) Shared(t testing.TB) S {
	t.Helper()
	return p.have(t, p.shared)
}

// New is one of a test's own, or skips the test. Some take seconds to start, so that this is
// left to who may have others start beside it.
func (p *Program[S]) New(t testing.TB) S {
	t.Helper()
	s := p.have(t, p.create)
	t.Cleanup(s.Kill)
	return s
}

func (p *Program[S]) have(t testing.TB, server func() (S, error)) S {
	t.Helper()
	if what := p.missing(); what != "" {
		databasetest.Missing(t, what)
	}
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lacking is what is to be said if a program is not there.
func lacking(found bool, what string) string {
	if found {
		return ""
	}
	return what
}
