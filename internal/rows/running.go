package rows

import "sync"

// Running are the watches of triggers that run, by the triggers' ids. The zero value is
// ready, and its methods may be called concurrently.
type Running[W any] struct {
	mu  sync.Mutex // guards all
	all map[string]W
}

// Enter adds one, until leave is called.
func (r *Running[W]) Enter(id string, w W) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]W{}
	}
	r.all[id] = w
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.all, id)
	}
}

// Of returns a trigger's; false: it does not run.
func (r *Running[W]) Of(id string) (W, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.all[id]
	return w, ok
}
