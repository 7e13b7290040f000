package bench_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// BenchmarkFlood is one client's latency while another project keeps many
// instances computing, over its latency alone, in blocks that take turns; and the
// same of the bare handler, which is the floor: what this machine's scheduler makes
// anybody wait beside so many that compute.
func BenchmarkFlood(b *testing.B) {
	l := languages[0]
	for _, spinning := range []int{8, 16} {
		b.Run(fmt.Sprint(spinning), func(b *testing.B) {
			d, addr := l.start(b)
			f := l.flood(b, d, spinning)
			ours, bare := caller(b, addr, "/fn/echo/"), caller(b, l.startBare(b), "/")
			call(b, ours, 500, nil)
			call(b, bare, 500, nil)
			f.run(b, func() { time.Sleep(2 * time.Second) }) // until all instances are there
			const block = 2000
			var alone, beside, bareAlone, bareBeside bench.Latencies
			b.ResetTimer()
			for done := 0; done < b.N; done += block {
				n := min(block, b.N-done)
				alone, bareAlone = call(b, ours, n, alone), call(b, bare, n, bareAlone)
				f.run(b, func() { beside, bareBeside = call(b, ours, n, beside), call(b, bare, n, bareBeside) })
			}
			b.StopTimer()
			b.ReportMetric(0, "ns/op")
			for _, m := range []struct {
				of            string
				alone, beside bench.Latencies
			}{{"", alone, beside}, {"bare-", bareAlone, bareBeside}} {
				for _, p := range []float64{50, 99} {
					b.ReportMetric(us(m.alone.Percentile(p)), fmt.Sprintf("%salone-p%v-us", m.of, p))
					b.ReportMetric(us(m.beside.Percentile(p)), fmt.Sprintf("%sp%v-us", m.of, p))
					b.ReportMetric(float64(m.beside.Percentile(p))/float64(m.alone.Percentile(p)), fmt.Sprintf("%sp%v-ratio", m.of, p))
				}
			}
		})
	}
}

// A flood is another project's function that computes, and so many who call it.
type flood struct {
	client  *client.Client
	callers int
}

func (l *language) flood(b *testing.B, d *daemon.Daemon, callers int) flood {
	b.Helper()
	z := archive(b, filepath.Join("testdata", "python", "app.py"))
	code, err := d.PutCode(b.Context(), z, int64(z.Len()))
	if err != nil {
		b.Fatal(err)
	}
	other := *d.Client
	other.Project = "other"
	if _, err := other.Deploy(b.Context(), "spin", &client.DeployRequest{Runtime: &l.runtime, Handler: new("app.spin"), Code: code.Digest}, nil); err != nil {
		b.Fatal(err)
	}
	return flood{&other, callers}
}

// run calls f while the flood is on, and returns when it is over.
func (f flood) run(b *testing.B, during func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	for range f.callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := f.client.Invoke(b.Context(), client.InvokeRequest{Name: "spin", Payload: strings.NewReader("null"), Length: -1}, io.Discard)
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // until all of them compute
	during()
	cancel()
	wg.Wait()
	time.Sleep(time.Second)
}
