package control

import (
	"context"

	"lambent"
)

// A DeployRequest says what a function is to be.
type DeployRequest struct {
	Name    lambent.Name     // without qualifier
	Config  lambent.Config   // whole; what is left out is the default
	Scaling *lambent.Scaling // nil: as it is
	URL     *lambent.URL     // nil: as it is; a new function has none
	Async   *lambent.Async   // nil: as it is
	// Edit makes it so in place of all these. It may be called again, on a newer
	// function, when another change came in between.
	Edit    func(*lambent.Function) error
	Expect  string // Function.RevisionID as read; "": whatever is there. A function that is not there is stale
	Publish bool   // also as a version, unless the last one is the same
	// Description is that of the version.
	Description string
	Untried     bool // the code is not started on trial: whoever deploys knows why
}

// Deploy makes the function, or gives it a new configuration, in one
// compare-and-set. Without Expect the last of several deploys wins. Kinds:
// Invalid, Broken (the code does not start), Stale, NoSpace.
func (c *Control) Deploy(ctx context.Context, r DeployRequest) (*lambent.Function, error) {
	return c.do(ctx, r.change("control.Deploy"))
}

// Create is Deploy of a function that must not be there. Kind: Exists.
func (c *Control) Create(ctx context.Context, r DeployRequest) (*lambent.Function, error) {
	ch := r.change("control.Create")
	ch.mustMake = true
	return c.do(ctx, ch)
}

func (r DeployRequest) change(op string) change {
	return change{
		op: op, name: r.Name, expect: r.Expect, make: true, publish: r.Publish, description: r.Description, untried: r.Untried,
		edit: func(f *record) error {
			if r.Edit != nil {
				return r.Edit(&f.Function)
			}
			f.Latest = r.Config.WithDefaults()
			if r.Scaling != nil {
				f.Scaling = *r.Scaling
			}
			if r.URL != nil {
				f.URL = *r.URL
			}
			if r.Async != nil {
				f.Async = *r.Async
			}
			return nil
		},
	}
}

// An UpdateRequest alters part of a function.
type UpdateRequest struct {
	Name        lambent.Name
	Config      func(*lambent.Config) // alters it; may be called again on a newer one; nil: as it is
	Scaling     *lambent.Scaling
	URL         *lambent.URL
	Expect      string
	Publish     bool
	Description string
}

// UpdateConfig alters a function that is there. Kinds: NotFound and Deploy's.
func (c *Control) UpdateConfig(ctx context.Context, r UpdateRequest) (*lambent.Function, error) {
	return c.do(ctx, r.change("control.UpdateConfig"))
}

func (r UpdateRequest) change(op string) change {
	return change{
		op: op, name: r.Name, expect: r.Expect, publish: r.Publish, description: r.Description,
		edit: func(f *record) error {
			if r.Config != nil {
				r.Config(&f.Latest)
			}
			if r.Scaling != nil {
				f.Scaling = *r.Scaling
			}
			if r.URL != nil {
				f.URL = *r.URL
			}
			return nil
		},
	}
}

// A Code is what bundle has made of an upload.
type Code struct {
	Tree string // digests, as in lambent.Config
	Zip  string
	Size int64
}

// UpdateCode gives a function that is there other code, and leaves the rest.
// Request.Config, if any, is applied too. Kinds: as UpdateConfig.
func (c *Control) UpdateCode(ctx context.Context, r UpdateRequest, code Code) (*lambent.Function, error) {
	alter := r.Config
	r.Config = func(config *lambent.Config) {
		config.Code, config.CodeZip, config.CodeSize = code.Tree, code.Zip, code.Size
		config.Entries = nil // they were the old code's
		if alter != nil {
			alter(config)
		}
	}
	return c.do(ctx, r.change("control.UpdateCode"))
}
