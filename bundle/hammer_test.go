package bundle_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lambent"
)

// Many put the same few archives while a collector removes whatever List shows.
// Nobody sees half a tree, and nothing goes wrong but what the contract names.
func TestHammer(t *testing.T) {
	s, dir := open(t, lambent.DefaultLimits())
	var archives [][]byte
	for i := range 3 {
		archives = append(archives, makeZip(entry{"a", fmt.Sprint(i), 0o644}, entry{"d/b", "b", 0o755}, entry{"l", "d/b", link}))
	}
	var putters, collector sync.WaitGroup
	stop := make(chan struct{})
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			items, err := s.List()
			if err != nil {
				t.Error(err)
			}
			for _, item := range items {
				if err := s.Remove(item); err != nil && !lambent.Is(err, lambent.Stale) {
					t.Error(err)
				}
			}
		}
	})
	for g := range 8 {
		putters.Go(func() {
			for i := range 30 {
				tree, err := s.PutZip(t.Context(), bytes.NewReader(archives[(g+i)%len(archives)]))
				if err != nil {
					t.Error(err)
					continue
				}
				path, err := s.Path(tree.Digest)
				if lambent.Is(err, lambent.NotFound) {
					continue // collected meanwhile
				}
				if _, err := os.Stat(filepath.Join(path, "l")); err != nil {
					if _, gone := os.Stat(path); gone == nil {
						t.Errorf("half a tree: %v", err)
					}
				}
			}
		})
	}
	putters.Wait()
	close(stop)
	collector.Wait()
	leftovers(t, dir)
}

// A deploy that is acknowledged keeps its tree, whatever the collector believed
// before: what was put after List is Stale, so the collector leaves it.
func TestCollectorDoesNotTakeWhatWasJustPut(t *testing.T) {
	s, _ := open(t, lambent.DefaultLimits())
	archive := makeZip(entry{"a", "b", 0o644})
	put(t, s, archive)
	for range 50 {
		items, err := s.List()
		if err != nil {
			t.Fatal(err)
		}
		tree := put(t, s, archive)
		for _, item := range items {
			s.Remove(item)
		}
		if !s.Has(tree.Digest) {
			t.Fatal("the tree is gone")
		}
	}
}

func BenchmarkPutZip(b *testing.B) {
	s, _ := open(b, lambent.DefaultLimits())
	for _, files := range []int{1, 1000} {
		b.Run(fmt.Sprintf("files=%d", files), func(b *testing.B) {
			for n := 0; b.Loop(); n++ {
				b.StopTimer()
				var es []entry
				for i := range files {
					es = append(es, entry{fmt.Sprintf("d%d/f%d", i%20, i), fmt.Sprintln(time.Now(), n, i), 0o644})
				}
				archive := makeZip(es...)
				b.StartTimer()
				put(b, s, archive)
			}
		})
	}
}
