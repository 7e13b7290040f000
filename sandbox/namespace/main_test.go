//go:build linux && (amd64 || arm64)

package namespace_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// answering are addresses of the network that the tests run in, which is their
// own, as their mounts are: nothing that they do can touch the machine's.
var answering = []string{"10.66.0.1", "172.16.66.1", "192.168.66.1", "100.64.66.1", "169.254.169.254", "168.63.129.16", "81.2.69.1", "2001:db8:66::1"}

const inHost = "-test.lambent-host"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 { // each test says what it lacks
		os.Exit(m.Run())
	}
	if len(os.Args) > 1 && os.Args[1] == inHost {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		if err := answer(); err != nil {
			fmt.Fprintln(os.Stderr, "namespace: the tests' network:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", append([]string{inHost}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}

// answer gives the loopback of the network the addresses.
func answer() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, a := range answering {
		host := netlink.NewIPNet(net.ParseIP(a))
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: host}); err != nil && host.IP.To4() != nil { // a kernel may have no IPv6
			return err
		}
	}
	return nil
}
