package main

import (
	"cmp"
	"maps"
	"strings"
	"time"

	"lambent"
	"lambent/client"
	"lambent/internal/detect"
)

// request says what a function is to be: what lambent.toml says, and the flags
// over it. What neither says stays out, and so stays as it is.
func (p *program) request(f *detect.Function, has *client.Function, d *deployFlags, project string) (*client.DeployRequest, error) {
	r := &client.DeployRequest{
		Runtime: optional(f.Runtime), Handler: optional(f.Handler),
		Command:      append([]string{}, f.Command...), // none is said, too
		MemoryMB:     optional(cmp.Or(d.memory, f.MemoryMB)),
		Concurrency:  optional(cmp.Or(d.concurrency, f.Concurrency)),
		TimeoutMS:    optional(cmp.Or(d.timeout, f.Timeout).Milliseconds()),
		OnDisconnect: optional(cmp.Or(d.onDisconnect, f.OnDisconnect)),
		Env:          environment(f, has, d.environment()),
		Network:      f.Network,
		Publish:      d.publish, VersionDescription: d.description, DryRun: d.dryRun,
	}
	if len(f.Command) > 0 {
		r.Handler = &f.Handler // what another kind of function had is not this one's
	}
	if d.changed("network") {
		r.Network = strings.Split(d.network, ",")
	}
	if !d.check {
		r.Check = new(false)
	}
	r.Scaling = scaling(f, d)
	r.Async = async(f, d)
	if f.On != nil {
		r.Triggers = []client.SourceRequest{}
	}
	for i := range f.On {
		source, err := p.source(&f.On[i])
		if err != nil {
			return nil, err
		}
		r.Triggers = append(r.Triggers, source)
	}
	if policy := p.policy(f, has, d, project); policy != "" || f.Stream || d.changed("stream") {
		r.URL = &client.URLRequest{Policy: optional(policy)}
		if f.Stream || d.changed("stream") {
			r.URL.Stream = new(f.Stream)
			if d.changed("stream") {
				r.URL.Stream = &d.stream
			}
		}
	}
	return r, nil
}

// database is what is watched, with a URL that a variable may have: it has a password,
// which is nothing for a file beside the code.
func (p *program) database(on *detect.On) (*client.Database, error) {
	url, err := p.secret("database", on.Database, "postgres://USER:PASSWORD@HOST/DATABASE")
	if err != nil {
		return nil, err
	}
	certificates, err := p.certificatesOn(on)
	return &client.Database{URL: url, Tables: on.Table, Columns: on.Columns, Operations: on.Operations, Snapshot: on.Snapshot, Shape: on.Shape, Certificates: certificates}, err
}

// broker is whose messages are taken, in the same way.
func (p *program) broker(on *detect.On) (*client.Broker, error) {
	url, err := p.secret("broker", on.Broker, "kafka://USER:PASSWORD@HOST")
	if err != nil {
		return nil, err
	}
	certificates, err := p.certificatesOn(on)
	return &client.Broker{URL: url, Topic: on.Topic, Group: on.Group, From: on.From, Certificates: certificates}, err
}

// certificatesOn are those of a trigger.
func (p *program) certificatesOn(on *detect.On) (c lambent.Certificates, err error) {
	for _, s := range []struct {
		key, said, form string
		value           *string
	}{{"ca", on.CA, `"$(cat ca.pem)"`, &c.CA}, {"certificate", on.Certificate, `"$(cat certificate.pem)"`, &c.Certificate}, {"key", on.Key, `"$(cat key.pem)"`, &c.Key}} {
		if *s.value, err = p.secret(s.key, s.said, s.form); err != nil {
			return c, err
		}
	}
	return c, nil
}

// secret is the value of a key of [[on]], or of the variable that it names.
func (p *program) secret(key, value, form string) (string, error) {
	name, ok := strings.CutPrefix(value, "$")
	if !ok {
		return value, nil
	}
	name = strings.Trim(name, "{}")
	if value = p.getenv(name); value == "" {
		return "", lambent.Errorf(lambent.Invalid, "", "%s: %s is $%s, and there is no variable %s", detect.File, key, name, name).WithHint("export %s=%s", name, form)
	}
	return value, nil
}

// optional is nil for what was not said.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func scaling(f *detect.Function, d *deployFlags) *client.ScalingRequest {
	s := &client.ScalingRequest{MinInstances: optional(f.Min), MaxInstances: optional(f.Max)}
	if d.changed("min") {
		s.MinInstances = &d.min
	}
	if d.changed("max") {
		s.MaxInstances = &d.max
	}
	if s.Reserved = f.Reserved; d.changed("reserved") {
		s.Reserved = &d.reserved
	}
	if f.KeepAlive != nil {
		s.KeepAliveMS = new(f.KeepAlive.Milliseconds())
	}
	if d.changed("keep-alive") {
		s.KeepAliveMS = new(d.keepAlive.Milliseconds())
	}
	if *s == (client.ScalingRequest{}) {
		return nil
	}
	return s
}

// ceilMS is a duration in ms: what is said does not become what was not.
func ceilMS(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func async(f *detect.Function, d *deployFlags) *client.AsyncRequest {
	a := &client.AsyncRequest{
		Attempts: optional(cmp.Or(d.attempts, f.Attempts)), Factor: optional(cmp.Or(d.factor, f.Factor)),
		BackoffMS: optional(ceilMS(cmp.Or(d.backoff, f.Backoff))), MaxAgeMS: optional(ceilMS(cmp.Or(d.maxAge, f.MaxAge))),
		OnSuccess: optional(cmp.Or(d.onSuccess, f.OnSuccess)), OnFailure: optional(cmp.Or(d.onFailure, f.OnFailure)),
	}
	if d.changed("on-success") { // an empty one is said, too
		a.OnSuccess = &d.onSuccess
	}
	if d.changed("on-failure") {
		a.OnFailure = &d.onFailure
	}
	if *a == (client.AsyncRequest{}) {
		return nil
	}
	return a
}

// environment is what the function's environment is to be: that of lambent.toml
// or else what the function has, with what starts its framework and the flags'
// variables on top.
func environment(f *detect.Function, has *client.Function, flags map[string]string) map[string]string {
	env := f.Env
	if len(flags)+len(f.Started) == 0 {
		return env
	}
	if env == nil && has != nil {
		env = has.Configuration.Env
	}
	out := make(map[string]string, len(env)+len(f.Started)+len(flags))
	maps.Copy(out, env)
	maps.Copy(out, f.Started)
	maps.Copy(out, flags)
	return out
}

// policy says who may call the function's URL; "" leaves it as it is. A function
// that has a trigger for HTTP asks for one, and so does whoever deploys a new one
// from a terminal: a script has to say so.
func (p *program) policy(f *detect.Function, has *client.Function, d *deployFlags, project string) lambent.URLPolicy {
	if said := cmp.Or(lambent.URLPolicy(d.url), f.URL); said != "" {
		return said
	}
	asked := len(f.Routes) > 0 && (has == nil || has.URL.Policy == lambent.URLNone)
	if !asked && (has != nil || !isTerminal(p.out) && !isTerminal(p.err)) {
		return ""
	}
	if cmp.Or(project, lambent.DefaultProject) == lambent.DefaultProject {
		return lambent.URLPublic
	}
	return lambent.URLToken
}

// source is that of a trigger that lambent.toml has.
func (p *program) source(on *detect.On) (r client.SourceRequest, err error) {
	if on.Schedule != "" {
		r.Schedule = &client.Schedule{Expression: on.Schedule, Zone: on.Zone, JitterMS: on.Jitter.Milliseconds(), SkipMissed: on.SkipMissed}
	}
	if on.Pattern != "" {
		r.Pattern = []byte(on.Pattern)
	}
	if on.Bucket != "" {
		r.Bucket = &client.Bucket{Name: on.Bucket, Prefix: on.Prefix, Suffix: on.Suffix, Events: on.Events}
	}
	if on.Database != "" {
		if r.Database, err = p.database(on); err != nil {
			return r, err
		}
	}
	if on.Broker != "" {
		if r.Broker, err = p.broker(on); err != nil {
			return r, err
		}
	}
	if on.Queue != "" {
		r.Queue = &client.Queue{Name: on.Queue}
	}
	if on.Input != "" {
		r.Input = &client.Input{Paths: on.InputPaths, Template: on.Input}
	}
	if on.Filter != "" {
		r.Filter = []byte(on.Filter)
	}
	if on.BatchSize != 0 || on.BatchWindow != 0 || on.Parallel != 0 {
		r.Batch = &client.Batch{Size: on.BatchSize, WindowMS: on.BatchWindow.Milliseconds(), Parallel: on.Parallel}
	}
	return r, nil
}
