package netns_test

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// The tests are run by a second process in a network namespace of its own, which
// stands for the host: nothing that they do can touch the machine's network.
const inHost = "-test.lambent-host"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == inHost {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		if os.Getenv("LAMBENT_TEST_REQUIRE") != "" {
			fmt.Fprintln(os.Stderr, "netns: the tests need root")
			os.Exit(1)
		}
		fmt.Println("netns: skipped: the tests need root")
		return
	}
	cmd := exec.Command("/proc/self/exe", append([]string{inHost}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}
