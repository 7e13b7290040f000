package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"lambent"
)

// A change is one alteration of a function, and the only way a head is written
// (but for its delete).
type change struct {
	op     string
	name   lambent.Name
	expect string // the revision that the caller read; "": whatever is there

	// make allows the function not to be there yet, mustMake asks for it.
	make, mustMake bool

	// edit alters the record. It may be called again, on a newer record, when
	// another change came in between.
	edit func(*record) error

	publish     bool   // what it makes of latest becomes a version, unless the last one is the same
	description string // of that version
	untried     bool   // the code is not started on trial
	proven      bool   // it was deployed before: on a server that is full that is enough
}

// do carries out a change: reads, edits, checks, tries out, and writes by
// compare-and-set; all over again if the head has moved meanwhile and the caller
// did not say from which revision. A change that changes nothing writes nothing.
func (c *Control) do(ctx context.Context, ch change) (*lambent.Function, error) {
	if err := headName(ch.op, ch.name); err != nil {
		return nil, err
	}
	ch.name.Qualifier = ""
	if len(ch.description) > 256 {
		return nil, lambent.Errorf(lambent.Invalid, ch.op, "version description is %d characters, over the limit of 256", len(ch.description))
	}
	tried := "" // the configuration that passed its trial start
	for {
		old, absentAt, err := c.read(ctx, ch.op, ch.name)
		made := lambent.Is(err, lambent.NotFound) && ch.make
		switch {
		case made && ch.expect != "":
			return nil, stale(ch.op, ch.name, ch.expect)
		case made:
			old = &record{Function: lambent.Function{
				Name: ch.name, Revision: absentAt, URL: lambent.URL{Policy: lambent.URLNone}, Created: now(),
			}}
		case err != nil:
			return nil, err
		case ch.mustMake:
			return nil, exists(ch.op, ch.name)
		case ch.expect != "" && ch.expect != old.RevisionID():
			return nil, stale(ch.op, ch.name, ch.expect)
		}
		next, err := decode(old.encode(), old.Revision) // edits must not reach into old
		if err != nil {
			return nil, err
		}
		if err := ch.edit(next); err != nil {
			return nil, err
		}
		if err := next.Scaling.Validate(); err != nil {
			return nil, err
		}
		if err := next.URL.Validate(); err != nil {
			return nil, err
		}
		if err := next.Async.Validate(); err != nil {
			return nil, err
		}
		if err := c.keeps(old, next); err != nil {
			return nil, err
		}
		// A configuration that stays is not judged again: limits may have been
		// lowered, and whoever sets an alias need not answer for that.
		if digest := next.Latest.Digest(); digest != tried && (made || digest != old.Latest.Digest()) {
			if err := c.try(ctx, ch, next); err != nil {
				return nil, err
			}
			tried = digest
		}
		err = c.write(ctx, ch, old, next, made)
		switch {
		case err == nil:
			return &next.Function, nil
		case lambent.Is(err, lambent.Stale) && ch.expect != "":
			return nil, stale(ch.op, ch.name, ch.expect)
		case !lambent.Is(err, lambent.Stale) && !lambent.Is(err, lambent.Exists):
			return nil, err
		}
		select { // another process was faster; not in step with it
		case <-time.After(rand.N(10 * time.Millisecond)):
		case <-ctx.Done():
			return nil, lambent.Errorf(lambent.Canceled, ch.op, "given up while function %q was being changed by others: %w", ch.name.Function, ctx.Err())
		}
	}
}

// keeps asks whether there is what a change has set aside, if that is more than before.
func (c *Control) keeps(old, next *record) error {
	had, hadMB := old.SetAside()
	if n, mb := next.SetAside(); n > had || n*mb > had*hadMB {
		return c.plug.CanKeep(&next.Function)
	}
	return nil
}

// try asks whether a new configuration can run: it is within the limits, its
// runtime and code are here, and it starts.
func (c *Control) try(ctx context.Context, ch change, r *record) error {
	op := ch.op
	if err := r.Latest.Validate(c.plug.Limits); err != nil {
		return err
	}
	if err := c.plug.CanRun(&r.Latest); err != nil {
		return err
	}
	if !c.plug.HasCode(r.Latest.Code) {
		return lambent.Errorf(lambent.Invalid, op, "code %s is not here: upload it first", r.Latest.Code)
	}
	for _, layer := range r.Latest.Layers {
		if !c.plug.HasCode(layer) {
			return lambent.Errorf(lambent.Invalid, op, "layer %s is not here: upload it first", layer)
		}
	}
	if ch.untried {
		return nil
	}
	config := r.Latest
	err := c.plug.Check(ctx, lambent.NewRevision(r.Name, lambent.Latest, &config).In(c.functions.project(r.Name.Project).Network), &r.Scaling)
	if fault, ok := errors.AsType[*lambent.Fault](err); ok {
		reason, _, _ := strings.Cut(fault.Error(), "\n")
		e := lambent.Errorf(lambent.Broken, op, "function %q does not start, and nothing was changed: %s", r.Name.Function, reason)
		e.Err = fault
		return e
	}
	if ch.proven && lambent.Is(err, lambent.Throttled) {
		return nil
	}
	return err
}

// write puts a change into the store: the version first, if there is one to
// publish, then the head that counts it. It returns when the directory has it.
func (c *Control) write(ctx context.Context, ch change, old, next *record, made bool) (err error) {
	c.commit.Lock()
	defer c.commit.Unlock()
	if ch.publish {
		due, err := c.publishDue(ctx, next)
		if err != nil {
			return err
		}
		if due {
			stand := old.encode()
			if made {
				stand = placeholder
			}
			if err := c.writeVersion(ctx, ch, next, stand); err != nil {
				return err
			}
		}
	}
	if bytes.Equal(old.encode(), next.encode()) {
		return nil
	}
	next.Modified = now()
	if next.Revision, err = c.writeHead(ctx, next.Name, next.encode(), next.Revision); err != nil {
		return err
	}
	c.functions.headsAt.await(ctx, next.Revision)
	return nil
}

// publishDue reports whether latest differs from the last version.
func (c *Control) publishDue(ctx context.Context, r *record) (bool, error) {
	if !r.has(r.LastVersion) {
		return true, nil
	}
	last, err := c.readVersion(ctx, r.Name, r.LastVersion)
	if lambent.Is(err, lambent.NotFound) { // deleted just now
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return last.Config.Digest() != r.Latest.Digest(), nil
}

// writeVersion writes next's latest as the version after the last one, and
// counts it in next. Until next is written the version does not exist for
// anyone.
//
// The key may be taken: by a publisher that crashed before it wrote its head, or
// by one that is about to, in another process. Nobody can tell which, so the key
// is taken over, and in this order: read its revision, rewrite the head as it
// stands (a placeholder, if there is no function yet), overwrite the key at the
// revision that was read. Rewriting the head makes the other one's
// compare-and-set fail, so that it can never count a version that holds our
// configuration; and if the other one overtakes us, our overwriting fails, or our
// head does.
func (c *Control) writeVersion(ctx context.Context, ch change, next *record, stand []byte) error {
	number := next.LastVersion + 1
	v := lambent.Version{Number: number, Config: next.Latest, Description: ch.description, Published: now()}
	value, err := json.Marshal(v)
	if err != nil {
		return lambent.Errorf(lambent.Internal, ch.op, "%w", err)
	}
	if next.Revision == 0 { // no head to compare with yet
		if next.Revision, err = c.writeHead(ctx, next.Name, placeholder, 0); err != nil {
			return err
		}
	}
	at := versionKey(next.Name, number)
	if _, err = c.plug.Store.Create(ctx, at, value); err == nil || !lambent.Is(err, lambent.Exists) {
		next.LastVersion = number
		return err
	}
	taken, err := c.plug.Store.Get(ctx, at)
	if lambent.Is(err, lambent.NotFound) { // and free again: start over
		return lambent.Errorf(lambent.Stale, ch.op, "%s came and went: %w", at, err)
	}
	if err != nil {
		return err
	}
	if next.Revision, err = c.writeHead(ctx, next.Name, stand, next.Revision); err != nil {
		return err
	}
	if _, err := c.plug.Store.Update(ctx, at, value, taken.Revision); err != nil {
		return err
	}
	next.LastVersion = number
	return nil
}

// headName checks the name of a function as a whole.
func headName(op string, name lambent.Name) error {
	if err := name.Validate(); err != nil {
		return err
	}
	if q := name.Qualifier; q != "" && q != lambent.Latest {
		return lambent.Errorf(lambent.Invalid, op, "qualifier %q: this is of the function as a whole, name it without one", q)
	}
	return nil
}

func stale(op string, name lambent.Name, expect string) error {
	return lambent.Errorf(lambent.Stale, op, "function %q is not at revision %s any more: read it again, and repeat the change", name.Function, expect).
		WithHint("lambent show %s", lambent.Name{Project: name.Project, Function: name.Function})
}

func exists(op string, name lambent.Name) error {
	return lambent.Errorf(lambent.Exists, op, "function %q exists already in project %q", name.Function, name.Project).
		WithHint("lambent show %s", lambent.Name{Project: name.Project, Function: name.Function})
}
