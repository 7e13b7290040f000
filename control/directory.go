package control

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/store"
)

// A directory has every head and every project in memory. The store's watches
// alone write it, so that it only moves forward; whoever changed something waits
// until it has arrived. A head stays the bytes that it came as until its function
// is used.
type directory struct {
	load func(lambent.Name, int) (*lambent.Revision, error)

	heads    sync.Map // of key to *function
	projects sync.Map // of name to *lambent.Project

	// applying is held by either watch while it takes something in and tells of it:
	// listeners are called one at a time.
	applying sync.Mutex

	headsAt, projectsAt progress

	mu        sync.Mutex
	isFilled  bool // the first state is complete
	listeners []func(lambent.Name)
}

// A progress is how far a watch has come.
type progress struct {
	mu      sync.Mutex
	reached uint64        // the revision of the newest change that was applied
	moved   chan struct{} // closed when reached rises, or nil while nobody waits
}

// A key names a function in the directory.
type key struct{ project, function string }

// A function is one head in memory, for as long as the function exists.
type function struct {
	active atomic.Pointer[active] // nil until it is used

	mu       sync.Mutex // guards what is below, and writing active
	raw      []byte
	revision uint64
}

// An active is what resolving one function takes, as of one head and what its
// project says. All but the
// versions that have been read is fixed.
type active struct {
	record  *record
	latest  *lambent.Revision
	scaling *lambent.Scaling
	project *lambent.Project // what is said about it; never nil

	mu       sync.Mutex                                   // serialises reading versions
	versions atomic.Pointer[map[string]*lambent.Revision] // by label; replaced, never written
}

// apply takes in what the watch of heads says.
func (d *directory) apply(e store.Entry) {
	d.applying.Lock()
	defer d.applying.Unlock()
	project, name, ok := strings.Cut(strings.TrimPrefix(e.Key, headPrefix+"."), ".")
	if !ok {
		return // not a head; nothing of ours writes such a key
	}
	k := key{project, name}
	visible := true // to whom this change matters
	if e.Deleted || bytes.Equal(e.Value, placeholder) {
		_, visible = d.heads.LoadAndDelete(k)
	} else if known, ok := d.heads.Load(k); ok {
		known.(*function).replace(e, d.project(project))
	} else {
		// The engine's buffer holds more than the value: keep just that.
		d.heads.Store(k, &function{raw: slices.Clip(slices.Clone(e.Value)), revision: e.Revision})
	}

	if visible {
		d.tell(lambent.Name{Project: project, Function: name})
	}
	d.headsAt.move(e.Revision)
}

// applyProject takes in what the watch of projects says. It is about all of its
// functions, and with a new default network their revisions are others.
func (d *directory) applyProject(e store.Entry) {
	d.applying.Lock()
	defer d.applying.Unlock()
	name := strings.TrimPrefix(e.Key, projectPrefix+".")
	before := d.project(name)
	if e.Deleted {
		d.projects.Delete(name)
	} else if p, err := decodeProject(e); err == nil {
		d.projects.Store(name, p)
	} else {
		// Nobody knows what the operator has said. Nothing is what is safe.
		d.projects.Store(name, &lambent.Project{Name: name, Revision: e.Revision, Network: lambent.Network{"none"}})
	}
	if after := d.project(name); !slices.Equal(before.Network, after.Network) || before.MaxConcurrency != after.MaxConcurrency {
		for k, f := range d.heads.Range {
			if k := k.(key); k.project == name {
				f.(*function).move(after)
				d.tell(lambent.Name{Project: name, Function: k.function})
			}
		}
	}
	d.projectsAt.move(e.Revision)
}

// project is what is said about a project; not to be changed.
func (d *directory) project(name string) *lambent.Project {
	p, ok := d.projects.Load(name)
	if !ok {
		return &lambent.Project{Name: name}
	}
	return p.(*lambent.Project)
}

// tell calls the listeners, once the first state is complete.
func (d *directory) tell(name lambent.Name) {
	d.mu.Lock()
	listeners := d.listeners
	if !d.isFilled {
		listeners = nil
	}
	d.mu.Unlock()
	for _, f := range listeners {
		f(name)
	}
}

// move says that a change was applied.
func (p *progress) move(to uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached = max(p.reached, to)
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// filled ends the first state; changes after it are told to the listeners.
func (d *directory) filled() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.isFilled = true
}

func (d *directory) onChange(f func(lambent.Name)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listeners = append(slices.Clip(d.listeners), f)
}

// await returns once the watch has got to a revision, and the listeners know.
func (p *progress) await(ctx context.Context, revision uint64) {
	for {
		p.mu.Lock()
		if p.reached >= revision {
			p.mu.Unlock()
			return
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// find returns a function, or nil.
func (d *directory) find(name lambent.Name) *function {
	f, ok := d.heads.Load(key{name.Project, name.Function})
	if !ok {
		return nil
	}
	return f.(*function)
}

// resolve is the hot path: no store, no lock, no allocation once a function and
// its version have been used.
func (d *directory) resolve(name lambent.Name) (lambent.Target, error) {
	const op = "control.Resolve"
	f := d.find(name)
	if f == nil {
		return lambent.Target{}, noFunction(op, name)
	}
	a := f.active.Load()
	if a == nil {
		var err error
		if a, err = f.use(d, name.Project); err != nil {
			return lambent.Target{}, err
		}
	}
	t := lambent.Target{Revision: a.latest, Scaling: a.scaling, URL: &a.record.URL, Async: &a.record.Async, Project: a.project}
	label := name.Qualifier
	if alias, ok := a.record.Aliases[label]; ok {
		t.Alias = label
		label = alias.Version
		if alias.Other != "" {
			label = alias.Pick(rand.Float64())
		}
	}
	if label == "" || label == lambent.Latest {
		return t, nil
	}
	if versions := a.versions.Load(); versions != nil {
		if r, ok := (*versions)[label]; ok {
			t.Revision = r
			return t, nil
		}
	}
	var err error
	t.Revision, err = d.version(a, label)
	return t, err
}

// led is what latest is, and what aliases lead to.
func (d *directory) led(name lambent.Name) (all []lambent.Target, err error) {
	f := d.find(name)
	if f == nil {
		return nil, noFunction("control.Led", name)
	}
	a, err := f.use(d, name.Project)
	if err != nil {
		return nil, err
	}
	labels := []string{lambent.Latest}
	for _, alias := range a.record.Aliases {
		labels = append(labels, alias.Version, alias.Other)
	}
	slices.Sort(labels)
	for _, label := range slices.Compact(labels) {
		if label == "" { // an alias has no other
			continue
		}
		name.Qualifier = label
		t, err := d.resolve(name)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// version reads a version on its first use.
func (d *directory) version(a *active, label string) (*lambent.Revision, error) {
	number, ok := parseLabel(label)
	if !ok || !a.record.has(number) {
		return nil, noQualifier("control.Resolve", a.record, label)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var known map[string]*lambent.Revision
	if p := a.versions.Load(); p != nil {
		known = *p
	}
	if r, ok := known[label]; ok {
		return r, nil
	}
	r, err := d.load(a.latest.Name, number)
	if lambent.Is(err, lambent.NotFound) { // deleted just now
		return nil, noQualifier("control.Resolve", a.record, label)
	}
	if err != nil {
		return nil, err
	}
	r = r.In(a.project.Network)
	next := make(map[string]*lambent.Revision, len(known)+1)
	maps.Copy(next, known)
	next[label] = r
	a.versions.Store(&next)
	return r, nil
}

// use decodes the head of a function that has not been used yet. The project is
// looked at under the lock: when that changes after it, move finds what is made here.
func (f *function) use(d *directory, project string) (*active, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.active.Load(); a != nil {
		return a, nil
	}
	a, err := newActive(f.raw, f.revision, nil, d.project(project))
	if err != nil {
		return nil, err
	}
	f.active.Store(a)
	return a, nil
}

// replace takes in a newer head.
func (f *function) replace(e store.Entry, project *lambent.Project) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.raw, f.revision = slices.Clip(slices.Clone(e.Value)), e.Revision
	f.renewLocked(project)
}

// move takes in what is said about the project now.
func (f *function) move(project *lambent.Project) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewLocked(project)
}

func (f *function) renewLocked(project *lambent.Project) {
	old := f.active.Load()
	if old == nil {
		return
	}
	// A head that cannot be read is one for use to complain of, to each caller.
	next, _ := newActive(f.raw, f.revision, old, project)
	f.active.Store(next)
}

// snapshot returns the head, the caller's to modify.
func (f *function) snapshot() (*record, error) {
	f.mu.Lock()
	raw, revision := f.raw, f.revision
	f.mu.Unlock()
	return decode(raw, revision)
}

// newActive decodes a head, and takes over from the one before whatever did not
// change: instances run under those pointers.
func newActive(raw []byte, revision uint64, old *active, project *lambent.Project) (*active, error) {
	r, err := decode(raw, revision)
	if err != nil {
		return nil, err
	}
	a := &active{record: r, scaling: &r.Scaling, project: project, latest: lambent.NewRevision(r.Name, lambent.Latest, &r.Latest).In(project.Network)}
	if old == nil || !old.record.Created.Equal(r.Created) {
		return a, nil // a function that was deleted and made again has other versions
	}
	if old.latest.ID == a.latest.ID {
		a.latest = old.latest
	}
	if known := old.versions.Load(); known != nil {
		next := maps.Clone(*known)
		maps.DeleteFunc(next, func(label string, _ *lambent.Revision) bool {
			number, ok := parseLabel(label)
			return !ok || !r.has(number)
		})
		for label, version := range next {
			next[label] = version.In(project.Network)
		}
		a.versions.Store(&next)
	}
	return a, nil
}

// names returns the functions of a project, sorted.
func (d *directory) names(project string) []string {
	var names []string
	for k := range d.heads.Range {
		if k := k.(key); k.project == project {
			names = append(names, k.function)
		}
	}
	slices.Sort(names)
	return names
}

// now is when a change happens, as records keep it.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
