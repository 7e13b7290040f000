package scale

// Fair gives the next place to whom it is due, by start-time fair queueing (Goyal,
// Vin and Cheng, SIGCOMM 1996): among projects, and among the functions of each.
// Who waits gets shares of the node in proportion to weights, measured in GB-ms,
// whatever the sizes of what they run; who has not waited saves nothing up; and
// who takes alone what nobody else wants does not pay for it later.
//
// The zero value is ready. Its memory is bounded by what waits and what has had
// more than its share since anybody did.
type Fair struct {
	projects flows
	below    map[string]*flows
}

// Wait tells that a function waits for a place, until it leaves. Telling it
// again changes nothing.
func (f *Fair) Wait(project, function string) {
	f.projects.wait(project)
	if f.below == nil {
		f.below = map[string]*flows{}
	}
	fs := f.below[project]
	if fs == nil {
		fs = &flows{}
		f.below[project] = fs
	}
	fs.wait(function)
}

// Leave tells that a function waits no more.
func (f *Fair) Leave(project, function string) {
	fs := f.below[project]
	if fs == nil {
		return
	}
	fs.leave(function)
	if len(fs.waiting) == 0 {
		f.projects.leave(project)
	}
	f.tidy(project)
}

// Next returns who is to have the next place. It waits on, until Leave, and has
// the next one again unless it is charged.
func (f *Fair) Next() (project, function string, ok bool) {
	project, ok = f.projects.next()
	if !ok {
		return "", "", false
	}
	function, ok = f.below[project].next()
	return project, function, ok
}

// Charge tells what a function has used, or is about to, in GB-ms. The weight is
// its project's, 1 as a rule. One that nobody competes with needs no charge, but
// may be told.
func (f *Fair) Charge(project, function string, gbms, weight float64) {
	f.projects.charge(project, gbms/weight)
	if fs := f.below[project]; fs != nil {
		fs.charge(function, gbms)
	}
	f.tidy(project)
}

// Behind reports whether another that waits has had less than a function, by more
// than so many GB-ms: one of another project, or where no other waits one of the
// same.
func (f *Fair) Behind(project, function string, gbms float64) bool {
	if f.projects.behind(project, gbms) {
		return true
	}
	fs := f.below[project]
	return fs != nil && len(f.projects.waiting) == 1 && fs.behind(function, gbms)
}

func (f *Fair) tidy(project string) {
	f.projects.tidy()
	if fs := f.below[project]; fs != nil && len(fs.waiting) == 0 {
		if fs.tidy(); len(fs.of) == 0 || f.projects.of[project] == nil {
			delete(f.below, project)
		}
	}
}

// flows is one level of fair queueing.
type flows struct {
	virtual float64 // the start tag of what was served last
	of      map[string]*flow
	waiting []*flow
}

type flow struct {
	key   string
	start float64 // the tag of what it is served next
	place int     // among those that wait, + 1; 0: it does not
}

func (f *flows) get(k string) *flow {
	w := f.of[k]
	if w == nil {
		if f.of == nil {
			f.of = map[string]*flow{}
		}
		w = &flow{key: k}
		f.of[k] = w
	}
	return w
}

func (f *flows) wait(k string) {
	if w := f.get(k); w.place == 0 {
		f.waiting = append(f.waiting, w)
		w.place = len(f.waiting)
		w.start = max(w.start, f.virtual)
	}
}

func (f *flows) leave(k string) {
	if w := f.of[k]; w != nil && w.place > 0 {
		n := len(f.waiting) - 1
		last := f.waiting[n]
		f.waiting[w.place-1] = last
		last.place, w.place = w.place, 0
		f.waiting[n] = nil
		f.waiting = f.waiting[:n]
	}
}

// next is linear in who waits: places are short seldom, and for few.
func (f *flows) next() (key string, ok bool) {
	var first *flow
	for _, w := range f.waiting {
		if first == nil || w.start < first.start || w.start == first.start && w.key < first.key {
			first = w
		}
	}
	if first == nil {
		return "", false
	}
	f.virtual = max(f.virtual, first.start)
	return first.key, true
}

func (f *flows) behind(key string, cost float64) bool {
	had := f.virtual
	if w := f.of[key]; w != nil {
		had = max(had, w.start)
	}
	for _, w := range f.waiting {
		if w.key != key && w.start+cost < had {
			return true
		}
	}
	return false
}

func (f *flows) charge(k string, cost float64) {
	w := f.get(k)
	w.start = max(w.start, f.virtual) + cost
}

// tidy forgets whose tag says nothing that the virtual time does not.
func (f *flows) tidy() {
	if len(f.waiting) == 0 { // the end of a busy period: all begin anew
		clear(f.of)
		f.virtual = 0
		return
	}
	if len(f.of) < 2*len(f.waiting)+16 { // it is linear, and so seldom done
		return
	}
	for k, w := range f.of {
		if w.place == 0 && w.start <= f.virtual {
			delete(f.of, k)
		}
	}
}
