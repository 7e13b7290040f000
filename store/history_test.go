package store_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"lambent/store"
)

func newest(t testing.TB, h *store.History) (documents []string) {
	t.Helper()
	for d, err := range h.Newest(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(d.Before) > time.Hour || time.Since(d.Before) < -time.Minute {
			t.Errorf("%s is of %v", d.Text, d.Before)
		}
		documents = append(documents, string(d.Text))
	}
	return documents
}

func TestHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	h, err := s.OpenHistory(t.Context(), store.HistoryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := newest(t, h); len(got) != 0 {
		t.Errorf("%v", got)
	}
	var want []string
	for round := range 3 {
		for i := range 5 {
			d := fmt.Sprintf(`{"round":%d,"i":%d}`, round, i)
			h.Append([]byte(d))
			want = append(want, d)
		}
		slices.Reverse(want)
		if got := newest(t, h); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		slices.Reverse(want)
	}
	var places []store.Place
	for d := range h.Newest(t.Context()) {
		places = append(places, d.Place)
	}
	slices.Reverse(places)
	var again []string
	for d, err := range h.At(t.Context(), places) {
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, string(d.Text))
	}
	if !slices.Equal(again, want) {
		t.Errorf("%v, want %v", again, want)
	}
	h.Append([]byte("the last")) // which Close writes
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if h, err = open(t, dir).OpenHistory(t.Context(), store.HistoryOptions{}); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if got := newest(t, h); len(got) != 16 || got[0] != "the last" || got[15] != want[0] {
		t.Errorf("%v", got)
	}
}

// What is too much goes, the oldest first.
func TestHistoryBounds(t *testing.T) {
	t.Parallel()
	h, err := open(t, t.TempDir()).OpenHistory(t.Context(), store.HistoryOptions{Bytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	h.Append([]byte("the first"))
	var places []store.Place
	for d := range h.Newest(t.Context()) {
		places = append(places, d.Place)
	}
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 20 {
				h.Append(bytes.Repeat([]byte("x"), 100_000))
				time.Sleep(time.Millisecond)
			}
		})
	}
	writers.Wait()
	h.Append([]byte("the last"))
	got := newest(t, h)
	if len(got) < 5 || len(got) > 25 || got[0] != "the last" {
		t.Errorf("%d documents, the first %.20s", len(got), got[0])
	}
	for d, err := range h.At(t.Context(), places) {
		t.Errorf("%.20s is still there, %v", d.Text, err)
	}
}
