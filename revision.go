package lambent

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// A Revision is one exact (code, configuration) of a function under one version
// label, as its project has it run: what pools of instances are keyed by. A deploy
// makes a new one, and so does a change of the project that is about it. It is
// immutable once made, and shared by pointer.
type Revision struct {
	ID      string // unique to (project, function, version label, Config, Network)
	Name    Name   // without qualifier
	Version string // "latest" or a number
	Config  *Config
	Network Network // what it may connect to: [Network.Or] of the configuration's and the project's
}

// NewRevision returns the revision of a configuration, in a project that says
// nothing.
func NewRevision(name Name, version string, c *Config) *Revision {
	name.Qualifier = ""
	return &Revision{ID: revisionID(name, version, c), Name: name, Version: version, Config: c, Network: c.Network.Or(nil)}
}

func revisionID(name Name, version string, c *Config) string {
	return name.Project + "/" + name.Function + "@" + version + "+" + c.Digest()[:16]
}

// In returns the revision as it is in a project whose functions have a default
// network: itself, if that changes nothing.
func (r *Revision) In(project Network) *Revision {
	network := r.Config.Network.Or(project)
	if slices.Equal(network, r.Network) {
		return r
	}
	of := NewRevision(r.Name, r.Version, r.Config)
	if !slices.Equal(network, of.Network) {
		sum := sha256.Sum256([]byte(network.String()))
		of.ID += "+" + hex.EncodeToString(sum[:])[:16]
		of.Network = network
	}
	return of
}

// A Target is what a name resolves to for one invocation.
type Target struct {
	Revision *Revision
	Alias    string   // the alias that led here, or ""
	Scaling  *Scaling // of the function, as of now
	URL      *URL     // of the function, as of now
	Async    *Async   // of the function, as of now
	Project  *Project // what is said about the project, as of now; nil: nothing
}
