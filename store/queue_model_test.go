package store_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lambent"
	"lambent/store"
)

// A model is what a queue should be, as simply as it can be said.
type model struct {
	items    map[string]*modelItem // by lane and id
	finished map[string]bool
	next     int
}

type modelItem struct {
	lane, id, state, payload, note string
	attempt, number                int
	untouched                      bool // taken never: in the order of acceptance
	work                           *store.Work
}

// in returns the items of a lane ("": of all) in a state, in the order of acceptance.
func (m *model) in(lane, state string) (all []*modelItem) {
	for _, it := range m.items {
		if (lane == "" || it.lane == lane) && it.state == state {
			all = append(all, it)
		}
	}
	slices.SortFunc(all, func(a, b *modelItem) int { return a.number - b.number })
	return all
}

func (m *model) lanes() map[string]store.LaneStats {
	lanes := map[string]store.LaneStats{}
	for _, it := range m.items {
		s := lanes[it.lane]
		*map[string]*int{"waiting": &s.Waiting, "delayed": &s.Delayed, "running": &s.Running, "dead": &s.Dead}[it.state]++
		lanes[it.lane] = s
	}
	return lanes
}

// Whatever is done to a queue, it has what a simple model of it has, also when
// it is opened again in between.
func TestQueueModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "queue")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		var s *store.Store
		var q *store.Queue
		start := func() {
			if s, err = store.Open(t.Context(), store.Options{Dir: dir}); err != nil {
				t.Fatal(err)
			}
			if q, err = s.OpenQueue(t.Context(), store.QueueOptions{}); err != nil {
				t.Fatal(err)
			}
			q.SetTrim(2000)
		}
		start()
		defer func() {
			if s != nil { // it could not be opened again, which was told
				s.Close()
			}
		}()

		m := &model{items: map[string]*modelItem{}, finished: map[string]bool{}}
		laneNames := rapid.SampledFrom([]string{"a", "b", "c"})
		later := time.Now().Add(time.Hour)
		when := func(label string) (time.Time, string) {
			if rapid.IntRange(0, 3).Draw(t, label) == 0 {
				return later, "delayed"
			}
			return time.Time{}, "waiting"
		}
		// pick draws one of the items in a state, or skips the action.
		pick := func(t *rapid.T, state string) *modelItem {
			all := m.in("", state)
			if len(all) == 0 {
				t.Skip("none is", state)
			}
			return rapid.SampledFrom(all).Draw(t, state)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				var items []store.Item
				want := 0
				for range rapid.IntRange(1, 3).Draw(t, "items") {
					it := store.Item{
						Lane: laneNames.Draw(t, "lane"), ID: fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "id")),
						Payload: make([]byte, rapid.IntRange(0, 1000).Draw(t, "payload")), Attempt: rapid.IntRange(0, 3).Draw(t, "attempt"),
					}
					var state string
					it.NotBefore, state = when("when")
					items = append(items, it)
					k := it.Lane + it.ID
					if m.items[k] != nil || m.finished[k] {
						continue
					}
					want++
					m.next++
					m.items[k] = &modelItem{lane: it.Lane, id: it.ID, state: state, payload: string(it.Payload), attempt: it.Attempt, number: m.next, untouched: true}
				}
				if n, err := q.Add(t.Context(), items...); err != nil || n != want {
					t.Fatalf("Add returned %d, %v; want %d", n, err, want)
				}
			},
			"take": func(t *rapid.T) {
				lane := laneNames.Draw(t, "lane")
				n := rapid.IntRange(1, 3).Draw(t, "n")
				due := m.in(lane, "waiting")
				taken := q.Take(lane, n)
				if len(taken) != min(n, len(due)) {
					t.Fatalf("took %d of %d", len(taken), len(due))
				}
				last := 0
				for _, w := range taken {
					got, err := w.Load(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					it := m.items[lane+got.ID]
					if it == nil || it.state != "waiting" || it.payload != string(got.Payload) || it.attempt != w.Attempt || it.note != w.Note {
						t.Fatalf("took %+v, model has %+v", w, it)
					}
					if it.untouched {
						if it.number < last {
							t.Fatalf("item %d was taken after %d", it.number, last)
						}
						last = it.number
					}
					it.state, it.work = "running", w
				}
			},
			"done": func(t *rapid.T) {
				it := pick(t, rapid.SampledFrom([]string{"running", "dead"}).Draw(t, "state"))
				if err := it.work.Done(); err != nil {
					t.Fatal(err)
				}
				delete(m.items, it.lane+it.id)
				m.finished[it.lane+it.id] = true
			},
			"retry": func(t *rapid.T) {
				it := pick(t, rapid.SampledFrom([]string{"running", "dead"}).Draw(t, "state"))
				var at time.Time
				at, it.state = when("when")
				it.attempt, it.note, it.untouched = it.attempt+1, fmt.Sprint("attempt ", it.attempt), false
				if err := it.work.Retry(at, it.attempt, it.note); err != nil {
					t.Fatal(err)
				}
				if err := it.work.Done(); !lambent.Is(err, lambent.Stale) {
					t.Fatalf("Done after Retry: %v", err)
				}
			},
			"kill": func(t *rapid.T) {
				it := pick(t, "running")
				it.state, it.note, it.untouched = "dead", "killed", false
				if err := it.work.Kill(it.note); err != nil {
					t.Fatal(err)
				}
				if it.work, err = q.FindDead(it.lane, it.id); err != nil {
					t.Fatal(err)
				}
			},
			"release": func(t *rapid.T) {
				it := pick(t, "running")
				it.state, it.untouched = "waiting", false
				if err := it.work.Release(); err != nil {
					t.Fatal(err)
				}
			},
			"repeat": func(t *rapid.T) {
				it := pick(t, "running")
				it.state, it.untouched = "waiting", false
				it.attempt, it.note = it.attempt+1, fmt.Sprint("again ", it.attempt)
				if err := it.work.Repeat(it.attempt, it.note); err != nil {
					t.Fatal(err)
				}
				if first := q.Take(it.lane, 1); len(first) != 1 || first[0].Attempt != it.attempt || first[0].Note != it.note {
					t.Fatalf("after Repeat the first one is %+v", first)
				} else if err := first[0].Release(); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				start()
				for _, it := range m.in("", "running") {
					it.state = "waiting"
				}
				for _, it := range m.in("", "dead") {
					if it.work, err = q.FindDead(it.lane, it.id); err != nil {
						t.Fatal(err)
					}
				}
			},
			"": func(t *rapid.T) {
				got := map[string]store.LaneStats{}
				for _, lane := range q.Lanes() {
					s := q.LaneStats(lane)
					if (s.Waiting > 0) == s.OldestDue.IsZero() {
						t.Fatalf("%d wait, the oldest since %v", s.Waiting, s.OldestDue)
					}
					s.OldestDue = time.Time{}
					got[lane] = s
				}
				if want := m.lanes(); !maps.Equal(got, want) {
					t.Fatalf("lanes are %v, want %v", got, want)
				}
				for lane := range got {
					if n := len(q.Dead(lane)); n != got[lane].Dead {
						t.Fatalf("%d of %d dead ones are listed", n, got[lane].Dead)
					}
				}
			},
		})
	})
}
