package logs_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lambent/logs"
)

// In synthetic time no flush comes while a test does not wait, as if the disk
// stood still: lines that do not fit into memory are dropped where they were, and
// counted, and the memory is given back.
func TestStandingDisk(t *testing.T) {
	text := strings.Repeat("x", 1000)
	for _, c := range []struct {
		what     string
		logs     int
		lines    int // in each
		keptMB   int // at least, in all
		mostMB   int
		sayingIt string
	}{
		{"one log", 1, 8000, 3, 4, "the disk did not keep up"},
		{"many logs", 24, 4000, 40, 64, "the buffers of all logs are full"},
	} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s, err := logs.Open(logs.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for round := range 2 { // if memory leaked there would be less of it each time
				request := fmt.Sprint("round ", round)
				for i := range c.logs {
					put(s.Function(name(fmt.Sprint("f", i))), request, c.lines, func(int) string { return text })
				}
				time.Sleep(time.Second)
				synctest.Wait()
				kept, dropped, marks, said := 0, 0, 0, false
				for i := range c.logs {
					for _, e := range entries(t, s, name(fmt.Sprint("f", i)), logs.Filter{}) {
						if e.Dropped == 0 {
							kept++
							continue
						}
						marks++
						dropped += e.Dropped
						said = said || strings.Contains(e.Text, c.sayingIt)
					}
					if err := s.Delete(name(fmt.Sprint("f", i))); err != nil {
						t.Fatal(err)
					}
				}
				if kept+dropped != c.logs*c.lines || kept < c.keptMB*1000 || kept > c.mostMB<<20/1000 || marks > c.logs || !said {
					t.Errorf("%s, round %d: %d lines kept and %d dropped in %d marks, of %d", c.what, round, kept, dropped, marks, c.logs*c.lines)
				}
			}
		})
	}
}
