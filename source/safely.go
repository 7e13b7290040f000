package source

import (
	"fmt"
	"runtime/debug"

	"lambent"
)

// A Panic is what code has ended with.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string { return fmt.Sprint(p.Value) }

// Safely has code run that reads what another side says, and may take it for granted that
// this is what it claims to be: its panic is an error, of kind Unavailable.
func Safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = lambent.Errorf(lambent.Unavailable, "source", "what the other side says cannot be read: %w", &Panic{v, debug.Stack()})
		}
	}()
	return f()
}
