// Command inside keeps work coming to a server whose data is on a disk of its own, and tells what
// is known of it on standard output, until the power is cut.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lambent/client"
	"lambent/test/workload"
)

const (
	disk     = "/dev/vdb"
	recorder = "127.0.0.1:9701"
)

func main() {
	round := flag.Int("round", -1, "how often the power has been cut; negative: only look")
	flag.Parse()
	if err := run(context.Background(), *round); err != nil {
		fmt.Println("inside:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, round int) error {
	const mounted = "/data"
	if err := os.Mkdir(mounted, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(disk, mounted, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", disk, err)
	}
	know := func(f workload.Fact) { fmt.Println(f) } // one write(2)
	go func() { fmt.Println("recorder:", http.ListenAndServe(recorder, workload.Recorder(know))) }()

	data := filepath.Join(mounted, "lambent")
	server := exec.Command("lambent", "serve", "--listen", "127.0.0.1:9700", "--data", data, "--driver", "process")
	server.Env = []string{"PATH=/nowhere"} // where it looks for interpreters
	server.Stderr = os.Stdout
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	token, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		return err
	}
	l, err := workload.New(ctx, client.New(strings.TrimSpace(url), strings.TrimSpace(string(token))), "/usr/bin/recorder", "http://"+recorder, know)
	if err != nil {
		return err
	}
	if round < 0 {
		if err := l.Look(ctx); err != nil {
			return err
		}
	}
	fmt.Println("UP")
	if round >= 0 {
		l.Run(ctx, round, nil)
	}
	return server.Wait()
}
