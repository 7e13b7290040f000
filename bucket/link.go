package bucket

import (
	"context"
	"errors"
	"net/rpc"
	"time"

	"lambent"
	"lambent/source/object"
)

// What a gateway asks its server, over the connection that it was born with.

const service = "Server"

// A Setup is what a gateway is told first.
type Setup struct {
	Objects  string // the directory of buckets
	Versions string // and where older versions lie
	SideCar  string // and attributes, on file systems that have none
	Lock     string // a file that the project's one gateway locks
	Socket   string // where it is to listen, seen from Objects
	Access   string // the one account, which owns all buckets
	Secret   string // its secret, with which requests are signed
	Region   string
}

// A Begun is the answer to Begin.
type Begun struct {
	ID      string
	Watched bool      // somebody wants to know
	Began   time.Time // of the intent, as the file system has it
	Refusal
}

// Done is what has happened under a name.
type Done struct {
	ID      string
	Changes []object.Change
}

// A Key is a secret, or a refusal.
type Key struct {
	Secret string
	Refusal
}

// A Refusal is an error on the way from one process to the other.
type Refusal struct {
	Refused bool
	Kind    lambent.Kind
	Message string
}

func refusal(err error) Refusal {
	if err == nil {
		return Refusal{}
	}
	return Refusal{true, lambent.KindOf(err), err.Error()}
}

// Err returns the error again.
func (r Refusal) Err() error {
	if !r.Refused {
		return nil
	}
	return lambent.Errorf(r.Kind, "bucket", "%s", r.Message)
}

// A Link is a gateway's end. Its methods may be called concurrently; what they return
// other than refusals is that the server is gone.
type Link struct{ client *rpc.Client }

// NewLink returns the end of a gateway.
func NewLink(c *rpc.Client) *Link { return &Link{c} }

func (l *Link) call(method string, args, reply any) error {
	return l.client.Call(service+"."+method, args, reply)
}

// Setup asks what the gateway is for.
func (l *Link) Setup() (s Setup, err error) {
	err = l.call("Setup", struct{}{}, &s)
	return s, err
}

// Ready says that the gateway listens.
func (l *Link) Ready() error { return l.call("Ready", struct{}{}, &struct{}{}) }

// Begin is [object.Source.Begin].
func (l *Link) Begin(changes []object.Change) (Begun, error) {
	var b Begun
	err := l.call("Begin", changes, &b)
	return b, errors.Join(err, b.Err())
}

// Done is [object.Source.Done].
func (l *Link) Done(id string, changes []object.Change) error {
	var r Refusal
	err := l.call("Done", Done{id, changes}, &r)
	return errors.Join(err, r.Err())
}

// Cancel is [object.Source.Cancel].
func (l *Link) Cancel(id string) error {
	var r Refusal
	err := l.call("Cancel", id, &r)
	return errors.Join(err, r.Err())
}

// Promise keeps room for so many bytes on the disk. Kind: NoSpace.
func (l *Link) Promise(bytes int64) error {
	var r Refusal
	err := l.call("Promise", bytes, &r)
	return errors.Join(err, r.Err())
}

// Fulfil gives back what was promised: it is there, or will not be.
func (l *Link) Fulfil(bytes int64) error { return l.call("Fulfil", bytes, &struct{}{}) }

// Pending is [object.Source.Pending].
func (l *Link) Pending() (all []object.Intent, err error) {
	var p struct {
		Intents []object.Intent
		Refusal
	}
	err = l.call("Pending", struct{}{}, &p)
	return p.Intents, errors.Join(err, p.Err())
}

// Key returns the secret of an access key of the project.
func (l *Link) Key(id string) (string, error) {
	var k Key
	err := l.call("Key", id, &k)
	return k.Secret, errors.Join(err, k.Err())
}

// serving is a server's end: what one gateway may ask. Its methods are net/rpc's.
type serving struct {
	g     *gateway
	setup Setup
}

// Setup implements Link.Setup.
func (s *serving) Setup(_ struct{}, reply *Setup) error {
	*reply = s.setup
	return nil
}

// Ready implements Link.Ready.
func (s *serving) Ready(struct{}, *struct{}) error {
	s.g.readyOnce.Do(func() { close(s.g.ready) })
	return nil
}

// Begin implements Link.Begin.
func (s *serving) Begin(changes []object.Change, reply *Begun) error {
	i, watched, err := s.g.opts.Source.Begin(s.g.project, changes)
	*reply = Begun{i.ID, watched, i.Began, refusal(err)}
	return nil
}

// Done implements Link.Done.
func (s *serving) Done(d Done, reply *Refusal) error {
	*reply = refusal(s.g.opts.Source.Done(context.Background(), s.g.project, d.ID, d.Changes))
	return nil
}

// Cancel implements Link.Cancel.
func (s *serving) Cancel(id string, reply *Refusal) error {
	*reply = refusal(s.g.opts.Source.Cancel(s.g.project, id))
	return nil
}

// Promise implements Link.Promise.
func (s *serving) Promise(bytes int64, reply *Refusal) error {
	*reply = refusal(s.g.buckets.promise(&s.g.copies, bytes))
	return nil
}

// Fulfil implements Link.Fulfil.
func (s *serving) Fulfil(bytes int64, _ *struct{}) error {
	s.g.buckets.count(&s.g.copies, -bytes)
	return nil
}

// Pending implements Link.Pending.
func (s *serving) Pending(_ struct{}, reply *struct {
	Intents []object.Intent
	Refusal
}) (err error) {
	reply.Intents, err = s.g.opts.Source.Pending(s.g.project)
	reply.Refusal = refusal(err)
	return nil
}

// Key implements Link.Key.
func (s *serving) Key(id string, reply *Key) (err error) {
	reply.Secret, err = s.g.opts.Secret(s.g.project, id)
	reply.Refusal = refusal(err)
	return nil
}
