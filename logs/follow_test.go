package logs_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/logs"
)

// follow reads entries on a goroutine of its own into a channel.
func follow(ctx context.Context, s *logs.Logs, n lambent.Name, f logs.Filter, entry func(logs.Entry)) (ended chan error) {
	ended = make(chan error, 1)
	go func() {
		for e, err := range s.Follow(ctx, n, f) {
			if err != nil {
				ended <- err
				return
			}
			entry(e)
		}
		ended <- nil
	}()
	return ended
}

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := logs.Open(logs.Options{Dir: dir, MaxBytes: 8 << 10}) // it rotates many times
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		l := s.Function(name("f"))
		start := time.Now()
		put(l, "r", 10, numbered)
		var got []logs.Entry
		ctx, cancel := context.WithCancel(t.Context())
		ended := follow(ctx, s, name("f"), logs.Filter{Since: start}, func(e logs.Entry) { got = append(got, e) })
		synctest.Wait()
		for i := range 500 {
			l.Line(time.Now(), "1", "r", []byte(numbered(10+i)))
			if i%10 == 0 {
				time.Sleep(110 * time.Millisecond)
			}
		}
		synctest.Wait()
		if len(got) != 510 {
			t.Fatalf("%d entries of 510", len(got))
		}
		for i, e := range got {
			if e.Text != numbered(i) || e.Dropped != 0 || e.Request != "r" || e.Version != "1" {
				t.Fatalf("entry %d is %+v", i, e)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}

		// Without Since it begins now; Delete and Close end it.
		var texts []string
		ended = follow(t.Context(), s, name("f"), logs.Filter{Request: "b"}, func(e logs.Entry) { texts = append(texts, e.Text) })
		synctest.Wait()
		put(l, "a", 3, numbered)
		put(l, "b", 2, numbered)
		synctest.Wait()
		if fmt.Sprint(texts) != "[line 0 line 1]" {
			t.Errorf("lines of request b: %q", texts)
		}
		if err := s.Delete(name("f")); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("after the delete: %v", err)
		}
		ended = follow(t.Context(), s, name("f"), logs.Filter{}, func(logs.Entry) {})
		synctest.Wait()
		s.Close()
		if err := <-ended; err != nil {
			t.Errorf("after the close: %v", err)
		}
		if err := <-follow(t.Context(), s, name("f"), logs.Filter{}, func(logs.Entry) {}); err != nil {
			t.Errorf("of closed logs: %v", err)
		}
	})
}

// A follower that does not come gets what fits and the number of the rest.
func TestSlowFollower(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := logs.Open(logs.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		l := s.Function(name("f"))
		text := strings.Repeat("x", 1000)
		const n = 3000 // three times what waits for a follower
		seen, dropped, marks := 0, 0, 0
		held := make(chan struct{})
		hold := sync.OnceFunc(func() { <-held })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := follow(ctx, s, name("f"), logs.Filter{Request: "r"}, func(e logs.Entry) {
			hold()
			if e.Dropped > 0 {
				marks++
				dropped += e.Dropped
			} else {
				seen++
			}
		})
		synctest.Wait()
		put(l, "r", 1, func(int) string { return text })
		time.Sleep(time.Second) // it has the first line and is held: however it is scheduled, it takes no second batch
		put(l, "r", n-1, func(int) string { return text })
		close(held)
		synctest.Wait()
		if seen+dropped != n || dropped == 0 || marks != 1 || seen < 500 {
			t.Errorf("%d seen, %d dropped in %d marks, of %d", seen, dropped, marks, n)
		}
		put(l, "r", 1, numbered) // it goes on
		synctest.Wait()
		if seen+dropped != n+1 {
			t.Errorf("the follower did not go on: %d", seen+dropped)
		}
		cancel()
		<-ended
		if got := entries(t, s, name("f"), logs.Filter{}); len(got) != n+1 {
			t.Errorf("the log has %d lines of %d", len(got), n+1)
		}
	})
}
