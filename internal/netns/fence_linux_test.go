package netns_test

import (
	"testing"
)

// What the fence keeps a function from is there to be reached: without it, it is.
func TestFence(t *testing.T) {
	newWorld(t)
	nets := open(t, 3)
	n := mk(t, nets, 4095)
	other := mk(t, nets, 0)
	serveHello(t, listen(t, other.File(), ":8080"))

	forbidden := append(at(worldPort, beyond...), at(worldPort, hostPublic, hostPrivate, "198.19.48.0")...)
	want(t, n.File(), true, at(worldPort, internet)...)
	want(t, n.File(), false, forbidden...)
	if from, err := call(t, n.File(), internet+":8080"); err != nil || from.Addr().String() != hostPublic {
		t.Errorf("the world sees %v, %v: not the host", from, err)
	}
	unfence(t, 3)
	want(t, n.File(), true, forbidden...)
}
