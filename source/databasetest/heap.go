package databasetest

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// Heap measures how large the heap becomes, until the function that it returns is called.
func Heap(t testing.TB) (most func() uint64) {
	for range 3 { // what is pooled outlives the first
		runtime.GC()
	}
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	var largest uint64
	stop, stopped := make(chan struct{}), make(chan struct{})
	end := sync.OnceFunc(func() {
		close(stop)
		<-stopped
	})
	t.Cleanup(end)
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(sample)
			largest = max(largest, sample[0].Value.Uint64())
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() uint64 {
		end()
		return largest
	}
}
