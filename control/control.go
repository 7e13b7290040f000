// Package control is what happens to functions: deploy, configure, publish,
// alias, roll back, delete; and to projects, what is said about all functions of
// one. It keeps each function's head and versions in the store, and every head in
// memory for the synchronous path.
//
// What it guarantees: a change is checked whole before anything is written, its
// code has been started once on trial, and it is one compare-and-set on the
// function's head: callers see the old function or the new one. A change that
// fails, or a crash at any moment, leaves the function as it was. A change that
// returned is durable, and [Control.Resolve] knows it. Versions never change,
// and their numbers are never used twice.
//
// What it does not do: keep code (bundle does), start code (the server plugs
// that in as Config.Check), end the instances of what is gone (dispatch does,
// told by OnChange), or decide who may do what (the edges do).
package control

import (
	"context"
	"sync"
	"time"

	"lambent"
	"lambent/store"
)

// A Config is what the server plugs in. All functions must be there, and may be
// called concurrently.
type Config struct {
	Store  *store.Store
	Limits lambent.Limits

	// HasCode reports whether the tree or archive of that digest is kept. Asking
	// is a use of it: see References.
	HasCode func(digest string) bool

	// CanRun returns nil if this server has what a configuration asks of it (its
	// runtime, its network), and the error for the user otherwise.
	CanRun func(*lambent.Config) error

	// CanHold returns nil if this server can hold functions to a network, and the
	// error for the user otherwise.
	CanHold func(lambent.Network) error

	// CanKeep returns nil if this server has what the function, as it is to be, has set
	// aside for it, and the error for the user otherwise.
	CanKeep func(*lambent.Function) error

	// Check starts a new revision on trial, of a function that is to be scaled so. A
	// *lambent.Fault is its code's own failure, another error the platform's; after either
	// nothing is changed.
	Check func(context.Context, *lambent.Revision, *lambent.Scaling) error

	// Deleted is called after a function was deleted, and before Delete returns,
	// to remove what belongs to it elsewhere. Unlike OnChange's it may take its
	// time. nil: there is nothing.
	Deleted func(lambent.Name)
}

// A Control keeps the functions of a store. Its methods may be called
// concurrently.
type Control struct {
	plug      Config
	functions directory

	// commit is held from the first write of a change to its last. It keeps the
	// changes of this process from overtaking each other again and again; between
	// processes the compare-and-set alone decides, and does so in any case.
	commit sync.Mutex
	stop   context.CancelFunc
}

// Open reads every head and every project into memory, and follows their changes until Close.
func Open(ctx context.Context, c Config) (*Control, error) {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	abandon := context.AfterFunc(ctx, stop)
	control := &Control{plug: c, stop: stop}
	control.functions.load = control.loadVersion
	// Projects first: no function is known before what its project says of it.
	err := c.Store.Watch(following, projectPrefix, control.functions.applyProject)
	if err == nil {
		err = c.Store.Watch(following, headPrefix, control.functions.apply)
	}
	if !abandon() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		return nil, err
	}
	control.functions.filled()
	return control, nil
}

// Close stops following. What is in memory stays and ages.
func (c *Control) Close() { c.stop() }

// OnChange adds a function that is called after a function was deployed,
// changed in any other way (by a change of its project, too), or deleted: once Resolve answers the new way, and
// before the change returns to its caller. Calls are serial. It must not block,
// nor change functions.
func (c *Control) OnChange(f func(lambent.Name)) { c.functions.onChange(f) }

// Resolve says what serves a name now. It never waits, except for the first use
// of a version since the start, which reads it from the store; an alias of two
// versions is resolved anew, by its weights, each time. The target is shared
// and must not be modified: as long as a configuration does not change, its
// revision is the same pointer. Kind: NotFound.
func (c *Control) Resolve(name lambent.Name) (lambent.Target, error) {
	return c.functions.resolve(name)
}

// Led says what calls are led to that name no version: latest, and the versions of aliases,
// each once. It may read from the store. Kind: NotFound.
func (c *Control) Led(name lambent.Name) ([]lambent.Target, error) {
	return c.functions.led(name)
}

// loadTimeout bounds the one read that Resolve may do.
const loadTimeout = 5 * time.Second

// loadVersion is how the directory reads a version that it does not know yet.
func (c *Control) loadVersion(name lambent.Name, number int) (*lambent.Revision, error) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	v, err := c.readVersion(ctx, name, number)
	if err != nil {
		return nil, err
	}
	return lambent.NewRevision(name, label(number), &v.Config), nil
}
