package store_test

import (
	"bytes"
	"context"
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
	if err := next(t, q).Done(); err != nil {
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

// A payload at the limit is taken, kept and handed out; one over it is refused.
func TestQueuePayload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	q := openQueue(t, dir, store.QueueOptions{})
	big := bytes.Repeat([]byte("0123456789abcdef"), store.MaxPayloadBytes/16)
	add(t, q, store.Item{ID: "big", Lane: "a", Payload: big, Meta: make([]byte, store.MaxMetaBytes)})
	if !bytes.Equal(load(t, next(t, q)).Payload, big) {
		t.Error("the payload is not what was added")
	}
	_, err := q.Add(t.Context(), store.Item{ID: "bigger", Lane: "a", Payload: append(big, 0)})
	wantKind(t, err, lambent.TooLarge)
}
