package server_test

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"lambent/client"
	"lambent/server"
	"lambent/server/servertest"
)

// What is recorded of a call, and what its REPORT line says, is what the code took: so
// much memory, and so long of a processor, by its own account.
func TestMeters(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("LAMBENT_TEST_REQUIRE") == "1" {
			t.Fatal("needs root")
		}
		t.Skip("needs root: nothing is measured without")
	}
	s := servertest.Start(t, func(c *server.Config) { c.Driver = "namespace" })
	s.Python(t, "take", `import time
def handler(event, context):
    kept = b"x" * (event["mb"] << 20)
    until = time.process_time() + event["cpu"]
    while time.process_time() < until:
        pass
    time.sleep(event["sleep"])
`, func(r *client.DeployRequest) { r.MemoryMB, r.TimeoutMS = new(512), new(int64(60_000)) })
	call := func(mb int, cpu, sleep float64) *client.Invocation {
		t.Helper()
		o, err := s.Client.Invoke(t.Context(), client.InvokeRequest{
			Name: "take", Payload: strings.NewReader(fmt.Sprintf(`{"mb": %d, "cpu": %g, "sleep": %g}`, mb, cpu, sleep)), Length: -1, Log: true, Usage: true,
		}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if o.Fault != "" {
			t.Fatalf("%s: %s", o.Fault, o.FaultMessage)
		}
		if said := fmt.Sprintf("\tMax Memory Used: %d MB", o.Usage.PeakMB); !strings.Contains(string(o.LogTail), said) {
			t.Errorf("it lacks %q:\n%s", said, o.LogTail)
		}
		return o.Usage
	}
	const some = 8 // MB that an interpreter may take besides
	bare := call(0, 0, 0).PeakMB
	if bare < 3 || bare > 64 {
		t.Errorf("Python and the code take %d MB", bare)
	}
	for _, c := range []struct {
		mb      int
		highest int64 // so far
	}{{40, 40}, {200, 200}, {100, 200}} {
		if got := call(c.mb, 0, 0).PeakMB; got < c.highest || got > c.highest+bare+some {
			t.Errorf("%d MB at most, by the record, of %d beside %d", got, c.highest, bare)
		}
	}
	const slack = 60_000 // us that a call takes besides, on a busy machine
	for _, c := range []struct{ cpu, sleep float64 }{{0.5, 0}, {0, 0.5}, {0.2, 0.3}} {
		us := int64(c.cpu * 1e6)
		if got := call(0, c.cpu, c.sleep).CPUUS; got < us*95/100 || got > us*105/100+slack {
			t.Errorf("%d us of a processor, by the record, of %d by the code's account", got, us)
		}
	}
}
