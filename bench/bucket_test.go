package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"lambent/bench"
	"lambent/client"
)

// BenchmarkPutObject is what it takes to upload objects by S3, each on disk when it is
// acknowledged: MB/s, and the processor of the server and of the process that keeps the
// buckets. With a trigger its event is on disk, too, and the function runs.
func BenchmarkPutObject(b *testing.B) {
	d, _ := languages[0].start(b)
	key, err := d.CreateToken(b.Context(), client.TokenRequest{Kind: "access_key", Role: "admin"})
	if err != nil {
		b.Fatal(err)
	}
	c := s3.New(s3.Options{
		BaseEndpoint: new(d.URL), Region: "us-east-1", UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}, nil
		}),
	})
	for _, bucket := range []string{"plain", "watched"} {
		if _, err := c.CreateBucket(b.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := d.AddTrigger(b.Context(), client.TriggerRequest{Function: "echo", SourceRequest: client.SourceRequest{Bucket: &client.Bucket{Name: "watched"}}}); err != nil {
		b.Fatal(err)
	}
	for _, bucket := range []string{"plain", "watched"} {
		for _, size := range []int{16 << 10, 1 << 20} {
			for _, clients := range []int{1, 4} {
				b.Run(fmt.Sprintf("%s/%dKB/%d", bucket, size>>10, clients), func(b *testing.B) {
					body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
					urls := make([]string, clients) // presigned, so that clients cost next to nothing
					for i := range urls {
						r, err := s3.NewPresignClient(c).PresignPutObject(b.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: new(fmt.Sprintf("%d/%d", size, i))}, s3.WithPresignExpires(time.Hour))
						if err != nil {
							b.Fatal(err)
						}
						urls[i] = r.URL
					}
					var left atomic.Int64
					left.Store(int64(b.N))
					each := make([]bench.Latencies, clients)
					processes := bench.Server(d.PID())
					before := bench.CPU(processes...)
					b.SetBytes(int64(size))
					b.ResetTimer()
					var wg sync.WaitGroup
					for i, url := range urls {
						wg.Go(func() {
							var transport http.Transport
							defer transport.CloseIdleConnections()
							for left.Add(-1) >= 0 {
								begun := time.Now()
								if err := putTo(b.Context(), &transport, url, body); err != nil {
									b.Error(err)
									return
								}
								each[i] = append(each[i], time.Since(begun))
							}
						})
					}
					wg.Wait()
					b.StopTimer()
					var all bench.Latencies
					for _, l := range each {
						all = append(all, l...)
					}
					b.ReportMetric(us(all.Percentile(50)), "p50-us")
					b.ReportMetric(us(all.Percentile(99)), "p99-us")
					b.ReportMetric(us(bench.CPU(processes...)-before)/float64(b.N), "cpu-us/put")
				})
			}
		}
	}
}

func putTo(ctx context.Context, t *http.Transport, url string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, answer)
	}
	return err
}
