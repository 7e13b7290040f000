package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/store"
)

// openQueue opens a store with its queue; both are closed with the test.
func openQueue(t testing.TB, dir string, o store.QueueOptions) *store.Queue {
	t.Helper()
	q, err := open(t, dir).OpenQueue(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func add(t testing.TB, q *store.Queue, items ...store.Item) int {
	t.Helper()
	n, err := q.Add(t.Context(), items...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// next waits for a lane with due items and takes one of them.
func next(t testing.TB, q *store.Queue) *store.Work {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lane, err := q.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := q.Take(lane, 1)
	if len(w) != 1 {
		t.Fatalf("lane %s was signalled and has %d items", lane, len(w))
	}
	return w[0]
}

func load(t testing.TB, w *store.Work) store.Item {
	t.Helper()
	it, err := w.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// An item that is due can be taken by its id, out of its turn, and once; what is delayed can
// be looked at.
func TestQueueTakeID(t *testing.T) {
	t.Parallel()
	q := openQueue(t, t.TempDir(), store.QueueOptions{})
	later := time.Now().Add(time.Hour)
	add(t, q, store.Item{ID: "1", Lane: "a"}, store.Item{ID: "2", Lane: "a", Payload: []byte("two")}, store.Item{ID: "3", Lane: "a", NotBefore: later, Payload: []byte("three")}, store.Item{ID: "4", Lane: "b", NotBefore: later})
	w, err := q.TakeID("a", "2")
	if err != nil {
		t.Fatal(err)
	}
	if it := load(t, w); string(it.Payload) != "two" {
		t.Errorf("taken %+v", it)
	}
	for _, id := range []string{"2", "3", "4"} {
		_, err := q.TakeID("a", id)
		wantKind(t, err, lambent.NotFound)
	}
	if all := q.Take("a", 3); len(all) != 1 {
		t.Errorf("%d are left", len(all))
	}
	delayed := q.Delayed("a")
	if len(delayed) != 1 || string(load(t, delayed[0]).Payload) != "three" || len(q.Delayed("c")) != 0 {
		t.Errorf("delayed: %+v", delayed)
	}
	wantKind(t, delayed[0].Done(), lambent.Stale)
	if err := w.Done(); err != nil {
		t.Fatal(err)
	}
	_, err = q.TakeID("a", "2")
	wantKind(t, err, lambent.NotFound)
}

// Queues of other names are other queues: what is in one is not in another, nor an id known.
func TestQueuesByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 2 {
		s := open(t, dir)
		for _, name := range []string{"", "other"} {
			q, err := s.OpenQueue(t.Context(), store.QueueOptions{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.OpenQueue(t.Context(), store.QueueOptions{Name: name}); !lambent.Is(err, lambent.Exists) {
				t.Errorf("opened twice: %v", err)
			}
			if round == 0 {
				add(t, q, store.Item{ID: "1", Lane: "a", Payload: []byte("of " + name)})
				continue
			}
			all := q.Take("a", 2)
			if len(all) != 1 {
				t.Fatalf("%q has %d items", name, len(all))
			}
			if it := load(t, all[0]); string(it.Payload) != "of "+name {
				t.Errorf("%q has %s", name, it.Payload)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What is given back has its place again, also after a restart.
func TestQueueRepeat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	q, err := s.OpenQueue(t.Context(), store.QueueOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "2", "3"} {
		add(t, q, store.Item{ID: id, Lane: "a", Attempt: 1})
	}
	taken := q.Take("a", 2)
	if err := taken[1].Release(); err != nil {
		t.Fatal(err)
	}
	if err := taken[0].Repeat(2, "it failed"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, taken[0].Repeat(3, ""), lambent.Stale)
	wantKind(t, taken[0].Repeat(-1, ""), lambent.Invalid)
	look := func() {
		t.Helper()
		all := q.Take("a", 4)
		if len(all) != 3 || all[0].Attempt != 2 || all[0].Note != "it failed" {
			t.Fatalf("taken %+v", all)
		}
		for i, w := range all {
			if it := load(t, w); it.ID != fmt.Sprint(i+1) {
				t.Errorf("item %s is number %d", it.ID, i+1)
			}
		}
	}
	look()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	q = openQueue(t, dir, store.QueueOptions{})
	look()
}

func TestQueueLife(t *testing.T) {
	t.Parallel()
	q := openQueue(t, t.TempDir(), store.QueueOptions{})
	if n := add(t, q, store.Item{ID: "1", Lane: "a", Meta: []byte("m"), Payload: []byte("one")}); n != 1 {
		t.Errorf("%d added, want 1", n)
	}
	w := next(t, q)
	if it := load(t, w); it.ID != "1" || it.Lane != "a" || string(it.Meta) != "m" || string(it.Payload) != "one" || it.Attempt != 0 {
		t.Errorf("loaded %+v", it)
	}
	if err := w.Retry(time.Now().Add(20*time.Millisecond), 1, "it failed"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, w.Done(), lambent.Stale)
	if s := q.LaneStats("a"); s.Delayed != 1 || s.Running != 0 {
		t.Errorf("after Retry: %+v", s)
	}
	w = next(t, q)
	if w.Attempt != 1 || w.Note != "it failed" || time.Now().Before(w.Since) {
		t.Errorf("taken %+v", w)
	}
	if err := w.Release(); err != nil {
		t.Fatal(err)
	}
	q.Wake("a")
	w = next(t, q)
	if err := w.Kill("it failed again"); err != nil {
		t.Fatal(err)
	}
	dead := q.Dead("a")
	if len(dead) != 1 || dead[0].Note != "it failed again" || string(load(t, dead[0]).Payload) != "one" {
		t.Fatalf("dead: %+v", dead)
	}
	wantKind(t, dead[0].Release(), lambent.Stale)
	w, err := q.FindDead("a", "1")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Retry(time.Time{}, 0, ""); err != nil {
		t.Fatal(err)
	}
	wantKind(t, dead[0].Done(), lambent.Stale)
	w = next(t, q)
	if w.Added.Before(dead[0].Since) {
		t.Errorf("what lives again counts as accepted at %v, and died at %v", w.Added, dead[0].Since)
	}
	if err := w.Done(); err != nil {
		t.Fatal(err)
	}
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := add(t, q, store.Item{ID: "1", Lane: "a"}, store.Item{ID: "1", Lane: "b"}); n != 1 {
		t.Errorf("%d added, want only that of lane b", n)
	}
	if s := q.Stats(); s.Waiting != 1 || s.Lanes != 1 || s.Running+s.Dead+s.Delayed != 0 {
		t.Errorf("%+v", s)
	}
}

// A lane has as many dead items as it may, the newest ones, and as many bytes of all.
func TestQueueLaneBounds(t *testing.T) {
	t.Parallel()
	dir, o := t.TempDir(), store.QueueOptions{LaneDead: 3, LaneDeadBytes: 2500, LaneBytes: 10_000}
	q := openQueue(t, dir, o)
	die := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			add(t, q, store.Item{ID: id, Lane: "a", Payload: make([]byte, 100)})
			if err := next(t, q).Kill("why"); err != nil {
				t.Fatal(err)
			}
		}
	}
	dead := func() (ids []string) {
		t.Helper()
		for _, w := range q.Dead("a") {
			ids = append(ids, load(t, w).ID)
		}
		return ids
	}
	die("1", "2", "3", "4", "5")
	if got := dead(); !slices.Equal(got, []string{"3", "4", "5"}) || q.Stats().Buried != 2 {
		t.Errorf("dead are %v, %+v", got, q.Stats())
	}
	add(t, q, store.Item{ID: "large", Lane: "a", Payload: make([]byte, 2300)})
	if err := next(t, q).Kill(""); err != nil {
		t.Fatal(err)
	}
	if got := dead(); !slices.Equal(got, []string{"5", "large"}) {
		t.Errorf("dead are %v", got)
	}
	add(t, q, store.Item{ID: "w1", Lane: "a", Payload: make([]byte, 7000)})
	for range 2 { // and after a restart
		if _, err := q.Add(t.Context(), store.Item{ID: "w2", Lane: "a", Payload: make([]byte, 1000)}); !lambent.Is(err, lambent.Throttled) {
			t.Error(err)
		}
		add(t, q, store.Item{ID: "1", Lane: fmt.Sprint(rand.Uint64()), Payload: make([]byte, 7000)})
		q = reopen(t, q, dir, o)
		if got := dead(); !slices.Equal(got, []string{"5", "large"}) {
			t.Errorf("dead are %v", got)
		}
	}
}

// What Flush has waited for is on disk, however much it is.
func TestQueueFlushesAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, dir, store.QueueOptions{})
	const items = 3000
	for i := 0; i < items; i += 100 {
		batch := make([]store.Item, 100)
		for j := range batch {
			batch[j] = store.Item{ID: fmt.Sprint(i + j), Lane: "a"}
		}
		add(t, q, batch...)
	}
	for _, w := range q.Take("a", items) {
		if err := w.Done(); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := q.Unwritten(); left != 0 {
		t.Errorf("%d changes are not on disk", left)
	}
}

// A payload at the limit is taken, kept and handed out; one over it is refused.
func TestQueuePayload(t *testing.T) {
	t.Parallel()
	q := openQueue(t, t.TempDir(), store.QueueOptions{})
	big := bytes.Repeat([]byte("0123456789abcdef"), store.MaxPayloadBytes/16)
	add(t, q, store.Item{ID: "big", Lane: "a", Payload: big, Meta: make([]byte, store.MaxMetaBytes)})
	if !bytes.Equal(load(t, next(t, q)).Payload, big) {
		t.Error("the payload is not what was added")
	}
	_, err := q.Add(t.Context(), store.Item{ID: "bigger", Lane: "a", Payload: append(big, 0)})
	wantKind(t, err, lambent.TooLarge)
}

// An owner does not fill the queue: there is room for others, and again for the owner once
// something is gone, also after a restart.
func TestQueueOwners(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := store.QueueOptions{OwnerItems: 3, OwnerBytes: 100 << 10}
	q := openQueue(t, dir, o)
	add(t, q, store.Item{ID: "1", Lane: "p/a"}, store.Item{ID: "1", Lane: "p/b"}, store.Item{ID: "2", Lane: "p/b"})
	full := func(it store.Item) {
		t.Helper()
		_, err := q.Add(t.Context(), it)
		wantKind(t, err, lambent.Throttled)
		if !strings.Contains(err.Error(), " p") {
			t.Errorf("%v does not say whose it is", err)
		}
	}
	full(store.Item{ID: "3", Lane: "p/c"})
	add(t, q, store.Item{ID: "1", Lane: "other/a"}, store.Item{ID: "1", Lane: "nobodys"})
	if err := q.Take("p/a", 1)[0].Kill("no"); err != nil { // dead ones count
		t.Fatal(err)
	}
	full(store.Item{ID: "3", Lane: "p/c"})
	if err := q.Take("p/b", 1)[0].Done(); err != nil {
		t.Fatal(err)
	}
	add(t, q, store.Item{ID: "3", Lane: "p/c"})
	full(store.Item{ID: "4", Lane: "p/c"})
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	q = reopen(t, q, dir, o)
	full(store.Item{ID: "4", Lane: "p/c"})
	if err := q.Take("p/b", 1)[0].Done(); err != nil {
		t.Fatal(err)
	}
	full(store.Item{ID: "4", Lane: "p/c", Payload: make([]byte, 100<<10)})
	add(t, q, store.Item{ID: "4", Lane: "p/c", Payload: make([]byte, 90<<10)})
}

// What is refused changes nothing, and says why.
func TestQueueRefuses(t *testing.T) {
	t.Parallel()
	q := openQueue(t, t.TempDir(), store.QueueOptions{LaneItems: 3, Items: 5, Bytes: 1 << 20, LaneBytes: 8 << 20})
	free := q.FakeDisk(1000 << 30)
	long := strings.Repeat("x", 256)
	for _, bad := range []store.Item{
		{Lane: "a"}, {ID: long, Lane: "a"}, {ID: "1"}, {ID: "1", Lane: long}, {ID: "1", Lane: "a", Attempt: -1},
		{ID: "1", Lane: "a", NotBefore: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		_, err := q.Add(t.Context(), store.Item{ID: "0", Lane: "a"}, bad)
		wantKind(t, err, lambent.Invalid)
	}
	_, err := q.Add(t.Context(), store.Item{ID: "1", Lane: "a", Meta: make([]byte, store.MaxMetaBytes+1)})
	wantKind(t, err, lambent.TooLarge)
	half := make([]byte, store.MaxPayloadBytes/2+1<<16)
	_, err = q.Add(t.Context(), store.Item{ID: "1", Lane: "a", Payload: half}, store.Item{ID: "2", Lane: "a", Payload: half})
	wantKind(t, err, lambent.TooLarge)
	_, err = q.Add(t.Context(), slices.Repeat([]store.Item{{ID: "1", Lane: "a"}}, 1000)...)
	wantKind(t, err, lambent.TooLarge)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = q.Add(canceled, store.Item{ID: "1", Lane: "a"})
	wantKind(t, err, lambent.Canceled)
	if s := q.Stats(); s.Waiting != 0 || s.Lanes != 0 || s.Frames != 0 {
		t.Errorf("after refusals: %+v", s)
	}

	// A lane's bound: for all of a call or none, and not for what is known.
	add(t, q, store.Item{ID: "1", Lane: "a"}, store.Item{ID: "2", Lane: "a"})
	_, err = q.Add(t.Context(), store.Item{ID: "3", Lane: "a"}, store.Item{ID: "1", Lane: "b"}, store.Item{ID: "4", Lane: "a"})
	wantKind(t, err, lambent.Throttled)
	if e, ok := errors.AsType[*lambent.Error](err); !ok || e.RetryAfter == 0 {
		t.Errorf("%v does not say when to come back", err)
	}
	add(t, q, store.Item{ID: "3", Lane: "a", NotBefore: time.Now().Add(time.Hour)})
	if n := add(t, q, store.Item{ID: "1", Lane: "a"}); n != 0 {
		t.Errorf("%d added of what is there", n)
	}
	_, err = q.Add(t.Context(), store.Item{ID: "4", Lane: "a"})
	wantKind(t, err, lambent.Throttled)
	w := next(t, q)
	if err := w.Retry(time.Time{}, 1, ""); err != nil {
		t.Errorf("a retry in a full lane: %v", err)
	}
	// The queue's.
	add(t, q, store.Item{ID: "1", Lane: "b"}, store.Item{ID: "2", Lane: "b"})
	_, err = q.Add(t.Context(), store.Item{ID: "3", Lane: "b"})
	wantKind(t, err, lambent.Throttled)
	if err := q.Take("a", 1)[0].Kill(""); err != nil {
		t.Fatal(err)
	}
	_, err = q.Add(t.Context(), store.Item{ID: "3", Lane: "b"})
	wantKind(t, err, lambent.Throttled)
	if err := q.Take("b", 1)[0].Done(); err != nil {
		t.Fatal(err)
	}
	// The log's.
	_, err = q.Add(t.Context(), store.Item{ID: "big", Lane: "b", Payload: make([]byte, store.MaxPayloadBytes)})
	wantKind(t, err, lambent.NoSpace)
	// The disk's: new work is refused, what is there goes on.
	free(49 << 30)
	_, err = q.Add(t.Context(), store.Item{ID: "3", Lane: "b"})
	wantKind(t, err, lambent.NoSpace)
	if err := q.Take("b", 1)[0].Done(); err != nil {
		t.Error(err)
	}
	if err := q.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	free(51 << 30)
	add(t, q, store.Item{ID: "3", Lane: "b"})
}

// With almost nothing free on the disk not even changes are written; what they
// say holds, and is written when there is room.
func TestQueueFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, dir, store.QueueOptions{})
	free := q.FakeDisk(1 << 40)
	add(t, q, store.Item{ID: "1", Lane: "a"}, store.Item{ID: "2", Lane: "a"})
	free(1 << 20)
	if err := next(t, q).Done(); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantKind(t, q.Flush(soon), lambent.Canceled)
	if n := q.Messages(t.Context()); n != 1 {
		t.Errorf("%d frames were written", n)
	}
	free(1 << 40)
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if q = reopen(t, q, dir, store.QueueOptions{}); q.LaneStats("a").Waiting != 1 {
		t.Errorf("%+v", q.LaneStats("a"))
	}
}

// A clock that is set back delays nothing that is due.
func TestQueueClock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, dir, store.QueueOptions{})
	q.SetClockBack(time.Hour)
	add(t, q, store.Item{ID: "1", Lane: "a"}, store.Item{ID: "2", Lane: "a", NotBefore: time.Now().Add(2 * time.Hour)})
	for range 2 {
		if s := q.LaneStats("a"); s.Waiting != 1 || s.Delayed != 1 {
			t.Errorf("%+v", s)
		}
		q = reopen(t, q, dir, store.QueueOptions{})
	}
}

// Lanes are handed out in their order, and none waits for another.
func TestQueueOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, dir, store.QueueOptions{})
	for i := range 100 {
		add(t, q, store.Item{ID: fmt.Sprintf("%02d", i), Lane: "a"}, store.Item{ID: fmt.Sprintf("%02d", i), Lane: "b"})
	}
	for _, lane := range []string{"a", "b"} {
		if got, err := q.Next(t.Context()); err != nil || got != lane {
			t.Errorf("%q, %v was signalled, want %s", got, err, lane)
		}
	}
	if got := q.Take("a", 2); len(got) != 2 || load(t, got[0]).ID != "00" || load(t, got[1]).ID != "01" {
		t.Errorf("took %v", got)
	}
	q = reopen(t, q, dir, store.QueueOptions{})
	for _, lane := range []string{"a", "b"} {
		for i, w := range q.Take(lane, 1000) {
			if it := load(t, w); it.ID != fmt.Sprintf("%02d", i) || it.Lane != lane {
				t.Fatalf("item %d of %s is %s of %s", i, lane, it.ID, it.Lane)
			}
		}
		if n := q.LaneStats(lane).Running; n != 100 {
			t.Errorf("%d of %s were taken", n, lane)
		}
	}
}

// reopen closes a queue with its store and opens the directory again.
func reopen(t testing.TB, q *store.Queue, dir string, o store.QueueOptions) *store.Queue {
	t.Helper()
	if err := q.Store().Close(); err != nil {
		t.Fatal(err)
	}
	return openQueue(t, dir, o)
}

// That dead items are forgotten is said, once of a lane, and not of all lanes at once.
func TestQueueTellsOfForgotten(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	q, err := s.OpenQueue(t.Context(), store.QueueOptions{LaneDead: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, lane := range []string{"a", "a", "b", "b", "a", "a", "b", "b"} {
		add(t, q, store.Item{ID: fmt.Sprint(rand.Uint64()), Lane: lane})
		if err := next(t, q).Kill("why"); err != nil {
			t.Fatal(err)
		}
	}
	n := q.Stats().Buried
	if err := s.Close(); err != nil { // nobody writes now
		t.Fatal(err)
	}
	if n != 4 || strings.Count(said.String(), "are forgotten") != 1 || !strings.Contains(said.String(), "lane=a items=2") {
		t.Errorf("%d are forgotten, and the log says: %s", n, &said)
	}
}

// Many who add the same ids at once have each of them once, and none is told so
// before it is on disk.
func TestQueueSameIDs(t *testing.T) {
	t.Parallel()
	q := openQueue(t, t.TempDir(), store.QueueOptions{})
	release := q.BlockWrites()
	defer release()
	var added, returned atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			n, err := q.Add(t.Context(), store.Item{ID: "1", Lane: "a"}, store.Item{ID: "2", Lane: "a"}, store.Item{ID: "2", Lane: "a"})
			if err != nil {
				t.Error(err)
			}
			added.Add(int64(n))
			returned.Add(1)
		})
	}
	for q.Coming() == 0 {
		runtime.Gosched()
	}
	if returned.Load() > 0 {
		t.Error("Add returned before anything was written")
	}
	release()
	all.Wait()
	if added.Load() != 2 || q.LaneStats("a").Waiting != 2 {
		t.Errorf("%d added, %+v", added.Load(), q.LaneStats("a"))
	}
}

// Ids are known again after a restart: of what waits, of what is dead, and of
// what was finished a while ago, until that has passed.
func TestQueueRemembers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := store.QueueOptions{RememberBytes: 1 << 20}
	q := openQueue(t, dir, o)
	waits, ends, dies := store.Item{ID: "waits", Lane: "w"}, store.Item{ID: "ends", Lane: "e"}, store.Item{ID: "dies", Lane: "d"}
	add(t, q, waits, ends, dies)
	if err := q.Take("e", 1)[0].Done(); err != nil {
		t.Fatal(err)
	}
	if err := q.Take("d", 1)[0].Kill("why"); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"open", "reopened"} {
		if n := add(t, q, waits, ends, dies); n != 0 {
			t.Errorf("%s: %d added again", state, n)
		}
		q = reopen(t, q, dir, o)
	}
	if s := q.Stats(); s.Waiting != 1 || s.Dead != 1 || q.Dead("d")[0].Note != "why" {
		t.Errorf("%+v", s)
	}
	for range 2 { // more than is remembered
		add(t, q, store.Item{ID: fmt.Sprint(time.Now()), Lane: "big", Payload: make([]byte, store.MaxPayloadBytes*3/4)})
	}
	if n := add(t, q, ends); n != 1 {
		t.Error("what was finished long ago is still known")
	}
}

// Whatever acknowledgement is lost, nothing is lost with it or stored twice.
func TestQueueLostAcknowledgements(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, dir, store.QueueOptions{})
	random := func(n int) func() bool { return func() bool { return rand.IntN(n) == 0 } }
	q.LoseAcks(random(4), random(3))
	const producers, each = 8, 20
	var all sync.WaitGroup
	for p := range producers {
		all.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", p, i)
				if _, err := q.Add(t.Context(), store.Item{ID: id, Lane: "a", Payload: []byte(id)}); err != nil {
					t.Error(err)
					return
				}
				for _, w := range q.Take("a", 1) {
					if err := w.Retry(time.Time{}, w.Attempt+1, ""); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := q.Dump()
	q = reopen(t, q, dir, store.QueueOptions{})
	if after := q.Dump(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	seen := map[string]bool{}
	for _, w := range q.Take("a", 1000) {
		it := load(t, w)
		if seen[it.ID] || string(it.Payload) != it.ID {
			t.Errorf("%s has payload %s, seen before: %v", it.ID, it.Payload, seen[it.ID])
		}
		seen[it.ID] = true
	}
	if len(seen) != producers*each {
		t.Errorf("%d items, want %d", len(seen), producers*each)
	}
}

// A log that somebody else writes is not written any more.
func TestQueueFenced(t *testing.T) {
	t.Parallel()
	q := openQueue(t, t.TempDir(), store.QueueOptions{})
	add(t, q, store.Item{ID: "1", Lane: "a"})
	if err := q.Intrude(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := q.Add(t.Context(), store.Item{ID: "2", Lane: "a"})
	wantKind(t, err, lambent.Unavailable)
	_, err = q.Add(t.Context(), store.Item{ID: "3", Lane: "a"})
	wantKind(t, err, lambent.Unavailable)
	_, err = q.Next(t.Context())
	wantKind(t, err, lambent.Unavailable)
	if err := q.Close(); err == nil {
		t.Error("Close does not say that something was not written")
	}
}

// Close writes what was accepted, and answers all who wait.
func TestQueueClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, dir, store.QueueOptions{})
	if _, err := q.Store().OpenQueue(t.Context(), store.QueueOptions{}); !lambent.Is(err, lambent.Exists) {
		t.Errorf("a second queue: %v", err)
	}
	add(t, q, store.Item{ID: "taken", Lane: "t"})
	w := next(t, q)
	var all sync.WaitGroup
	all.Go(func() {
		_, err := q.Next(t.Context())
		wantUnavailable(t, err)
	})
	release := q.BlockWrites()
	defer release()
	for i := range 4 {
		all.Go(func() {
			if _, err := q.Add(t.Context(), store.Item{ID: fmt.Sprint(i), Lane: "a"}); err != nil {
				t.Error(err)
			}
		})
	}
	for q.Coming() < 4 {
		runtime.Gosched()
	}
	if err := w.Retry(time.Now().Add(time.Hour), 1, ""); err != nil {
		t.Error(err)
	}
	for range 2 {
		all.Go(func() {
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for !q.Closing() {
		runtime.Gosched()
	}
	_, err := q.Add(t.Context(), store.Item{ID: "late", Lane: "a"})
	wantKind(t, err, lambent.Unavailable)
	wantKind(t, q.Flush(t.Context()), lambent.Unavailable)
	wantKind(t, w.Done(), lambent.Unavailable)
	release()
	all.Wait()
	q = reopen(t, q, dir, store.QueueOptions{})
	if s := q.Stats(); s.Waiting != 4 || s.Delayed != 1 {
		t.Errorf("after Close: %+v", s)
	}
}

func wantUnavailable(t *testing.T, err error) {
	if !lambent.Is(err, lambent.Unavailable) {
		t.Errorf("error is %v, want unavailable", err)
	}
}

// Who gives up waiting is told that it is not known what becomes of the items;
// they are stored.
func TestQueueGiveUp(t *testing.T) {
	t.Parallel()
	q := openQueue(t, t.TempDir(), store.QueueOptions{})
	release := q.BlockWrites()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	payload := []byte("payload")
	failed := make(chan error)
	go func() {
		_, err := q.Add(ctx, store.Item{ID: "1", Lane: "a", Payload: payload})
		failed <- err
	}()
	for q.Coming() == 0 {
		runtime.Gosched()
	}
	cancel()
	wantKind(t, <-failed, lambent.Canceled)
	payload[0] = 'X' // it is the caller's again
	release()
	if it := load(t, next(t, q)); string(it.Payload) != "payload" {
		t.Errorf("the payload is %q", it.Payload)
	}
}

// What is drained is given back, and what stays is moved out of its way.
func TestQueueTrim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := store.QueueOptions{Remember: 50 * time.Millisecond, RememberBytes: 1 << 16}
	q := openQueue(t, dir, o)
	q.SetTrim(256 << 10)
	payload := bytes.Repeat([]byte("p"), 10<<10)
	const rounds, each = 100, 20
	for r := range rounds {
		var items []store.Item
		for i := range each {
			items = append(items, store.Item{ID: fmt.Sprintf("%d-%d", r, i), Lane: fmt.Sprint("lane", i), Payload: payload})
		}
		add(t, q, items...)
		for i := range each {
			switch w := q.Take(fmt.Sprint("lane", i), 1)[0]; {
			case r%20 == 0 && i == 0:
				if err := w.Kill(fmt.Sprint("round ", r)); err != nil {
					t.Fatal(err)
				}
			case r%20 == 0 && i == 1:
				if err := w.Retry(time.Now().Add(time.Hour), r, "later"); err != nil {
					t.Fatal(err)
				}
			default:
				if err := w.Done(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for q.Stats().Bytes > 1<<20 { // 10 items of 10 KB, as much garbage, and what is not worth it
		if time.Now().After(deadline) {
			t.Fatalf("the log is not trimmed: %+v", q.Stats())
		}
		time.Sleep(time.Millisecond)
	}
	s := q.Stats()
	if s.Dead != 5 || s.Delayed != 5 || s.Waiting+s.Running != 0 {
		t.Errorf("%+v", s)
	}
	if first := q.First(); first < 80 { // the last ones that stay came with frame 81 or later
		t.Errorf("the log begins at frame %d: what stays was not moved", first)
	}
	for round := range 2 {
		for i, w := range q.Dead("lane0") {
			if it := load(t, w); it.ID != fmt.Sprintf("%d-0", i*20) || !bytes.Equal(it.Payload, payload) || w.Note != fmt.Sprint("round ", i*20) {
				t.Errorf("dead item %d is %s, %s", i, it.ID, w.Note)
			}
		}
		if round == 0 {
			q = reopen(t, q, dir, o)
		}
	}
	if s := q.Stats(); s.Dead != 5 || s.Delayed != 5 || s.Bytes > 1<<20 {
		t.Errorf("reopened: %+v", s)
	}
}

// What a power cut brings back of what was removed is not there.
func TestQueueMark(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := store.QueueOptions{Remember: time.Millisecond}
	q := openQueue(t, dir, o)
	q.KeepPurged()
	add(t, q, store.Item{ID: "1", Lane: "a"}, store.Item{ID: "2", Lane: "a"})
	for _, w := range q.Take("a", 2) {
		if err := w.Done(); err != nil {
			t.Fatal(err)
		}
	}
	q.SetTrim(1)
	for q.First() <= 2 {
		if err := q.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	add(t, q, store.Item{ID: "3", Lane: "a"})
	if n := q.Messages(t.Context()); n < 4 {
		t.Fatalf("the engine has %d frames: the test shows nothing", n)
	}
	q = reopen(t, q, dir, o)
	if first := q.First(); first <= 2 || q.Stats().Waiting != 1 {
		t.Errorf("the log begins at frame %d, %+v", first, q.Stats())
	}
}

// A frame that cannot be read is an error that names it, and nothing is changed.
func TestQueueDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, dir, store.QueueOptions{})
	add(t, q, store.Item{ID: "1", Lane: "a"})
	if err := q.Intrude(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.Store().Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	for range 2 {
		_, err := s.OpenQueue(t.Context(), store.QueueOptions{})
		if err == nil || !strings.Contains(err.Error(), "frame 2") {
			t.Errorf("opening a damaged log: %v", err)
		}
	}
}

// Producers, workers who do all that can be done, and those who look, at once.
func TestQueueHammer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := store.QueueOptions{Remember: 100 * time.Millisecond, RememberBytes: 64 << 10}
	q := openQueue(t, dir, o)
	q.SetTrim(64 << 10)
	const producers, each = 8, 100
	var done, killed atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var workers, all sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for {
				lane, err := q.Next(ctx)
				if err != nil {
					return
				}
				for _, w := range q.Take(lane, 3) {
					it, err := w.Load(ctx)
					if ctx.Err() != nil {
						return
					}
					if err != nil || !bytes.HasPrefix(it.Payload, []byte(it.ID)) {
						t.Errorf("item %s: %.20q, %v", it.ID, it.Payload, err)
					}
					switch n := rand.IntN(20); {
					case n == 0:
						err = w.Kill("killed")
						killed.Add(1)
					case n == 1:
						err = w.Release()
					case n < 6:
						err = w.Retry(time.Now().Add(time.Duration(rand.IntN(20))*time.Millisecond), w.Attempt+1, "again")
					default:
						err = w.Done()
						done.Add(1)
					}
					if err != nil {
						t.Error(err)
					}
				}
				q.Wake(lane)
			}
		})
	}
	for p := range producers {
		all.Go(func() {
			for i := range each {
				id := fmt.Sprintf("%d-%d", p, i)
				payload := append([]byte(id), make([]byte, rand.IntN(4000))...)
				if _, err := q.Add(ctx, store.Item{ID: id, Lane: fmt.Sprint("lane", rand.IntN(5)), Payload: payload}); err != nil {
					t.Error(err)
				}
				q.Stats()
				for _, lane := range q.Lanes() {
					q.LaneStats(lane)
					if dead := q.Dead(lane); len(dead) > 0 && rand.IntN(4) == 0 {
						if _, err := dead[0].Load(ctx); err == nil && dead[0].Retry(time.Time{}, 0, "") == nil {
							killed.Add(-1)
						}
					}
				}
			}
		})
	}
	all.Wait()
	deadline := time.Now().Add(time.Minute)
	for done.Load()+killed.Load() < producers*each {
		if time.Now().After(deadline) {
			t.Fatalf("%d done, %d killed: %+v", done.Load(), killed.Load(), q.Stats())
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	workers.Wait()
	if err := q.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := q.Stats()
	if s.Waiting+s.Running+s.Delayed != 0 || int64(s.Dead) != killed.Load() {
		t.Errorf("%d killed, %+v", killed.Load(), s)
	}
	q = reopen(t, q, dir, o)
	if r := q.Stats(); r.Dead != s.Dead || r.Waiting != 0 || r.Delayed != 0 || r.Live != s.Live {
		t.Errorf("before %+v, after %+v", s, r)
	}
}

// Whatever an index or a content reads, it is taken or refused and no more; and
// what is taken reads the same when it is written again.
func FuzzFrame(f *testing.F) {
	for _, seed := range store.SampleFrames() {
		f.Add(seed, []byte("\x01a\x01bpayload"))
	}
	f.Fuzz(func(t *testing.T, index, content []byte) {
		again, n, err := store.DecodeFrame(base64.StdEncoding.EncodeToString(index), content)
		if err != nil {
			return
		}
		same, m, err := store.DecodeFrame(again, content)
		if err != nil || same != again || m != n {
			t.Errorf("%d records, then %d, %v:\n%s\n%s", n, m, err, again, same)
		}
	})
}
