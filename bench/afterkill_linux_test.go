package bench_test

import (
	"io"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// BenchmarkAfterKill is how long after kill -9 of a server and its jail, with fifty
// sandboxes alive, half of them busy, the others frozen, the next server answers, and
// nothing is left of all that they were made of.
func BenchmarkAfterKill(b *testing.B) {
	const alive, busy = 50, 25
	await := func(n int, of func() int) {
		for of() < n {
			time.Sleep(10 * time.Millisecond)
		}
	}
	var ready, gone bench.Latencies
	things := 0
	for range b.N {
		data := filepath.Join(daemon.Dir(b), "data")
		d := daemon.Start(b, data, "--driver", "namespace", "--parked", "0")
		nap(b, d, "nap", "app.long_nap", &client.ScalingRequest{MinInstances: new(alive)})
		await(alive, func() int { return d.Frozen(b) })
		var calls sync.WaitGroup
		for range busy {
			calls.Go(func() {
				_, _ = d.Invoke(b.Context(), client.InvokeRequest{Name: "nap", Payload: strings.NewReader("null"), Length: -1}, io.Discard) // it is cut off
			})
		}
		await(busy, func() int { return alive - d.Frozen(b) })
		held := d.Holdings(b)
		begun := time.Now()
		for _, pid := range bench.Server(d.PID()) {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it is there
		}
		d.Kill()
		again := daemon.Start(b, data, "--driver", "namespace", "--parked", "0")
		ready = append(ready, time.Since(begun))
		for len(held.Left()) > 0 {
			time.Sleep(time.Millisecond)
		}
		gone = append(gone, time.Since(begun))
		things += len(held)
		calls.Wait()
		again.Kill()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(things)/float64(b.N), "things")
	b.ReportMetric(us(ready.Percentile(50)), "ready-p50-us")
	b.ReportMetric(us(ready.Percentile(100)), "ready-max-us")
	b.ReportMetric(us(gone.Percentile(50)), "gone-p50-us")
	b.ReportMetric(us(gone.Percentile(100)), "gone-max-us")
}
