package lambent

import (
	"strconv"
	"time"
)

// A Project is what an operator says about all functions of one project. There is
// one of every name: a project that nobody has said anything about says nothing.
type Project struct {
	Name           string    `json:"name"`
	Revision       uint64    `json:"-"`                         // of the record; 0: there is none
	Network        Network   `json:"network,omitempty"`         // of functions that do not say their own; a default, not a ceiling
	MaxConcurrency int       `json:"max_concurrency,omitempty"` // invocations at a time, of all its functions together; 0: no limit
	Modified       time.Time `json:"modified,omitzero"`
}

// Validate checks the name and what is said.
func (p *Project) Validate() error {
	if !nameRule.MatchString(p.Name) {
		return Errorf(Invalid, "project", "project %.80q: a name is 1 to 64 letters, digits, '-' or '_'", p.Name)
	}
	if p.MaxConcurrency < 0 || p.MaxConcurrency > 1_000_000 {
		return Errorf(Invalid, "project", "max concurrency %d is outside 0 to 1000000: 0 is no limit", p.MaxConcurrency)
	}
	return p.Network.Validate()
}

// RevisionID is Revision as clients see it, for optimistic concurrency.
func (p *Project) RevisionID() string { return strconv.FormatUint(p.Revision, 10) }
