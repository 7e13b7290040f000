package bench_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent/bench"
	"lambent/client"
	"lambent/test/daemon"
)

// BenchmarkTriggers is what a server costs that has 100 functions, 10,000 triggers (8,500
// with patterns, 1,000 of buckets, 500 of queues) and 1,000 schedules beside them: from
// exec to the first answer, and then idle, its processor time and memory.
func BenchmarkTriggers(b *testing.B) {
	const functions, triggers, schedules = 100, 10_000, 1000
	data := filepath.Join(daemon.Dir(b), "data")
	fill(b, data, functions)
	d := daemon.Start(b, data)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < triggers+schedules; i = int(next.Add(1)) - 1 {
				var s client.SourceRequest
				switch {
				case i >= triggers:
					s.Schedule = &client.Schedule{Expression: fmt.Sprintf("cron(%d %d * * ? *)", i%60, (time.Now().UTC().Hour()+2+i%20)%24)} // not now
				case i%20 == 0:
					s.Queue = &client.Queue{Name: fmt.Sprintf("queue-%d", i)}
				case i%10 == 1:
					s.Bucket = &client.Bucket{Name: fmt.Sprintf("bucket-%d", i%500)}
				default:
					s.Pattern = json.RawMessage(fmt.Sprintf(`{"source": ["shop-%d"], "detail": {"total": [{"numeric": [">", %d]}]}}`, i, i))
				}
				if _, err := d.AddTrigger(b.Context(), client.TriggerRequest{Function: fmt.Sprintf("function-%05d", 1+i%functions), SourceRequest: s}); err != nil {
					b.Errorf("trigger %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		return
	}
	d.Kill()
	var ready bench.Latencies
	var idle time.Duration
	var rss int64
	const watched = 10 * time.Second
	for b.Loop() {
		d := daemon.Start(b, data)
		ready = append(ready, d.Ready)
		time.Sleep(10 * time.Second) // what the start needed is given back
		before := bench.CPU(bench.Server(d.PID())...)
		time.Sleep(watched)
		idle += bench.CPU(bench.Server(d.PID())...) - before
		rss = max(rss, bench.RSS(d.PID()))
		d.Kill()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ready.Percentile(50).Microseconds())/1000, "ready-ms")
	b.ReportMetric(100*idle.Seconds()/(watched.Seconds()*float64(b.N)), "idle-%")
	b.ReportMetric(float64(rss)/(1<<20), "rss-MB")
}
