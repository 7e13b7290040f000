package store_test

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/store"
)

// open opens a store that is closed with the test.
func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// list collects what List yields.
func list(ctx context.Context, s *store.Store, prefix string) (all []store.Entry, err error) {
	for e, err := range s.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

func wantKind(t *testing.T, err error, kind lambent.Kind) {
	t.Helper()
	if !lambent.Is(err, kind) {
		t.Fatalf("error is %v (%v), want kind %v", err, lambent.KindOf(err), kind)
	}
}

func TestCompareAndSet(t *testing.T) {
	ctx := t.Context()
	s := open(t, t.TempDir())

	_, err := s.Get(ctx, "head.p.f")
	wantKind(t, err, lambent.NotFound)
	_, err = s.Update(ctx, "head.p.f", []byte("x"), 7)
	wantKind(t, err, lambent.Stale)

	one, err := s.Create(ctx, "head.p.f", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(ctx, "head.p.f", []byte("again"))
	wantKind(t, err, lambent.Exists)
	two, err := s.Update(ctx, "head.p.f", []byte("two"), one)
	if err != nil {
		t.Fatal(err)
	}
	if two <= one {
		t.Errorf("revision went from %d to %d", one, two)
	}
	_, err = s.Update(ctx, "head.p.f", []byte("late"), one)
	wantKind(t, err, lambent.Stale)
	_, err = s.Delete(ctx, "head.p.f", one)
	wantKind(t, err, lambent.Stale)

	e, err := s.Get(ctx, "head.p.f")
	if err != nil {
		t.Fatal(err)
	}
	if string(e.Value) != "two" || e.Revision != two || e.Modified.IsZero() {
		t.Errorf("got %q at %d, want two at %d", e.Value, e.Revision, two)
	}

	if _, err := s.Delete(ctx, "head.p.f", two); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(ctx, "head.p.f")
	wantKind(t, err, lambent.NotFound)
	_, err = s.Update(ctx, "head.p.f", []byte("late"), two)
	wantKind(t, err, lambent.Stale)
	three, err := s.Create(ctx, "head.p.f", []byte("three"))
	if err != nil {
		t.Fatal(err)
	}
	if three <= two {
		t.Errorf("the revision of a key that came back is %d, not over %d", three, two)
	}
}

func TestLimits(t *testing.T) {
	ctx := t.Context()
	s := open(t, t.TempDir())
	for _, key := range []string{"", ".", "a..b", "a b", "a.*", "a.>", "a.", "ключ"} {
		_, err := s.Create(ctx, key, nil)
		wantKind(t, err, lambent.Invalid)
	}
	if _, err := s.Create(ctx, "big", make([]byte, store.MaxValueBytes)); err != nil {
		t.Errorf("a record at the limit: %v", err)
	}
	_, err := s.Create(ctx, "bigger", make([]byte, store.MaxValueBytes+1))
	wantKind(t, err, lambent.TooLarge)
	_, err = s.Update(ctx, "big", nil, 0)
	wantKind(t, err, lambent.Invalid)
}

// A write whose acknowledgement is lost is sent again, and is neither stale for
// its own first sending nor stored twice.
func TestLostAcknowledgement(t *testing.T) {
	ctx := t.Context()
	s := open(t, t.TempDir())
	s.LoseAcks(2)
	one, err := s.Create(ctx, "a.b", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	s.LoseAcks(1)
	two, err := s.Update(ctx, "a.b", []byte("two"), one)
	if err != nil {
		t.Fatal(err)
	}
	if two != one+1 {
		t.Errorf("the update is at %d, want %d: it was stored twice", two, one+1)
	}
	s.LoseAcks(1)
	_, err = s.Update(ctx, "a.b", []byte("late"), one)
	wantKind(t, err, lambent.Stale)
	s.LoseAcks(1)
	if _, err := s.Delete(ctx, "a.b", two); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(ctx, "a.b")
	wantKind(t, err, lambent.NotFound)
}

func TestListAndReopen(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s := open(t, dir)
	none, err := list(ctx, s, "head")
	if err != nil || len(none) != 0 {
		t.Fatalf("an empty store lists %v, %v", none, err)
	}
	for i := range 300 {
		if _, err := s.Create(ctx, fmt.Sprintf("head.p.f%d", i), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Create(ctx, "headless.p.f", nil); err != nil {
		t.Fatal(err)
	}
	gone, err := s.Get(ctx, "head.p.f17")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, gone.Key, gone.Revision); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"open", "reopened"} {
		entries, err := list(ctx, s, "head")
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 299 {
			t.Fatalf("%s: %d entries, want 299", state, len(entries))
		}
		if e := entries[18]; e.Key != "head.p.f19" || !bytes.Equal(e.Value, []byte("19")) {
			t.Errorf("%s: entry 18 is %s = %q", state, e.Key, e.Value)
		}
		if state == "open" {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			_, err := s.Get(ctx, "head.p.f1")
			wantKind(t, err, lambent.Unavailable)
			_, err = s.Create(ctx, "head.p.new", nil)
			wantKind(t, err, lambent.Unavailable)
			s = open(t, dir)
		}
	}
}

// Every one of many concurrent increments counts exactly once.
func TestHammer(t *testing.T) {
	ctx := t.Context()
	s := open(t, t.TempDir())
	if _, err := s.Create(ctx, "counter", []byte("0")); err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := increment(ctx, s, "counter"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	e, err := s.Get(ctx, "counter")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(e.Value), strconv.Itoa(writers*each); got != want {
		t.Errorf("counter is %s, want %s", got, want)
	}
}

func increment(ctx context.Context, s *store.Store, key string) error {
	for {
		e, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(e.Value))
		if err != nil {
			return err
		}
		_, err = s.Update(ctx, key, []byte(strconv.Itoa(n+1)), e.Revision)
		if !lambent.Is(err, lambent.Stale) {
			return err
		}
	}
}

// A deleted key leaves a mark for a time, and then nothing; it can be made again
// before and after.
func TestDeleteLeavesNothing(t *testing.T) {
	ctx := t.Context()
	defer store.SetMarkFor(time.Second)()
	s := open(t, t.TempDir())
	for _, when := range []string{"marked", "forgotten"} {
		made, err := s.Create(ctx, "a", []byte("x"))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := s.Delete(ctx, "a", made); err != nil {
			t.Fatal(err)
		}
		if when == "marked" {
			continue
		}
		deadline := time.Now().Add(30 * time.Second)
		for {
			n, err := s.Messages(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d messages are left of a deleted key", n)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	if _, err := s.Create(ctx, "a", []byte("x")); err != nil {
		t.Error(err)
	}
}
