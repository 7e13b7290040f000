package server

import "testing"

// Whatever a machine has, what functions are promised, builds may take and the server needs
// is no more than that, and functions have half of it.
func TestMemoryShares(t *testing.T) {
	for total, want := range map[int]shares{
		512:      {functions: 256, build: 128, builds: 1, server: 128, bodies: 32},
		1 << 10:  {functions: 512, build: 256, builds: 1, server: 256, bodies: 64},
		2 << 10:  {functions: 1024, build: 512, builds: 1, server: 512, bodies: 128},
		3 << 10:  {functions: 1536, build: 512, builds: 2, server: 512, bodies: 128},
		8 << 10:  {functions: 6656, build: 512, builds: 2, server: 512, bodies: 128},
		16 << 10: {functions: 13312, build: 1024, builds: 2, server: 1024, bodies: 256},
		64 << 10: {functions: 57344, build: 2048, builds: 2, server: 4096, bodies: 1024},
	} {
		if got := share(total); got != want {
			t.Errorf("%d MB: %+v, want %+v", total, got, want)
		}
	}
	for total := 64; total < 1<<20; total += 7 {
		if s := share(total); s.functions < total/2 || s.functions+s.builds*s.build+s.server != total {
			t.Errorf("%d MB: %+v", total, s)
		}
	}
	for parked, want := range map[int]int{0: 6656, 16: 6656, 100: 6152, 1000: 752} { // what waits is nobody else's
		if got := share(8 << 10).beside(parked); got != want {
			t.Errorf("beside %d that are parked functions have %d MB, want %d", parked, got, want)
		}
	}
	if got := (shares{}).beside(1000); got != 0 {
		t.Errorf("where there is no bound it is %d", got)
	}
	if s := memoryShares(); s.build == 0 || s.bodies < 12 {
		t.Errorf("%+v: there is no room for a request's body", s)
	}
}
