package lambent

// A Revision is one exact (code, configuration) of a function under one version
// label: what pools of instances are keyed by. A deploy makes a new one. It is
// immutable once made, and shared by pointer.
type Revision struct {
	ID      string // unique to (project, function, version label, Config)
	Name    Name   // without qualifier
	Version string // "latest" or a number
	Config  *Config
}

// NewRevision returns the revision of a configuration.
func NewRevision(name Name, version string, c *Config) *Revision {
	name.Qualifier = ""
	return &Revision{
		ID:   name.Project + "/" + name.Function + "@" + version + "+" + c.Digest()[:16],
		Name: name, Version: version, Config: c,
	}
}

// A Target is what a name resolves to for one invocation.
type Target struct {
	Revision *Revision
	Alias    string   // the alias that led here, or ""
	Scaling  *Scaling // of the function, as of now
	URL      *URL     // of the function, as of now
}
