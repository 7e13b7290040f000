package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lambent/server"
)

const serveHelp = `Start a server. It serves until it is interrupted (Ctrl-C) or gets SIGTERM: then
it takes no more calls, lets those under way end within --grace, and ends. A second
signal ends it at once. Whatever was acknowledged survives either, and kill -9 too.

Standard output is the server's address, once it serves.

  lambent serve
  lambent serve --listen 127.0.0.1:0 --data ~/functions
  lambent serve --listen :9700 --host box.lan --tls-cert box.pem --tls-key box.key
  lambent serve --routes                 print what answers where, and to whom`

func serveCommand(p *program) *cobra.Command {
	cfg := server.DefaultConfig(p.getenv)
	var routes bool
	var level slog.Level
	format := "text"
	c := &cobra.Command{Use: "serve", Short: "Start a server", Long: serveHelp, Args: args(0)}
	f := c.Flags()
	f.StringVar(&cfg.Listen, "listen", cfg.Listen, "the address of the one port; port 0: any that is free")
	f.StringVar(&cfg.Data, "data", cfg.Data, "the data directory (LAMBENT_DATA)")
	f.StringVar(&cfg.Driver, "driver", cfg.Driver, "what isolates functions: auto, namespace (Linux, as root) or process (nothing does)")
	f.StringVar(&cfg.User, "user", "", "who the server runs as when it is started as root (default: lambent, or a number of its own; root: as it is)")
	f.Func("keep-alive", "how long an idle instance is kept, where the function does not say (`duration`; default: for as long as it is worth its memory)", func(s string) error {
		d, err := time.ParseDuration(s)
		cfg.KeepAlive = &d
		return err
	})
	f.IntVar(&cfg.MaxInstances, "max-instances", cfg.MaxInstances, "instances of all functions together")
	f.IntVar(&cfg.MemoryMB, "memory", cfg.MemoryMB, "MB that instances of all functions may be promised together (default: what the machine can spare)")
	f.IntVar(&cfg.Parked, "parked", cfg.Parked, "sandboxes of each runtime that may wait, booted, for cold starts")
	f.IntVar(&cfg.MaxStarts, "max-starts", cfg.MaxStarts, "instances of one function that are started per second; ten times as many at once, after a pause")
	f.IntVar(&cfg.MaxQueue, "max-queue", cfg.MaxQueue, "calls of one function that wait for an instance; more are refused")
	f.DurationVar(&cfg.Grace, "grace", cfg.Grace, "how long calls under way may take at the end")
	f.DurationVar(&cfg.KeepEvents, "keep-events", cfg.KeepEvents, "how long events are kept to be replayed, of which there is 1 GB at most")
	f.DurationVar(&cfg.KeepDead, "keep-dead", cfg.KeepDead, "how long dead letters are kept: asynchronous calls that failed for good")
	f.IntVar(&cfg.MaxDead, "max-dead", cfg.MaxDead, "dead letters that are kept of one function, 640 MB at most; of more, the oldest are removed")
	f.IntVar(&cfg.WarnLogMB, "warn-log", cfg.WarnLogMB, "MB of its log that a PostgreSQL may keep for a trigger before trigger list and the server's log warn of it")
	f.IntVar(&cfg.MaxRootMB, "max-root", cfg.MaxRootMB, "MB that one runtime may take that is added, unpacked; and its packages")
	f.StringArrayVar(&cfg.Hosts, "host", nil, "a name that clients may call this server by, beside localhost; may be repeated")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "serve HTTPS with this certificate (PEM)")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "and its key")
	f.BoolVar(&cfg.Insecure, "insecure", false, "plain HTTP on an address that other machines can reach")
	f.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.StringVar(&format, "log-format", format, "text or json")
	f.BoolVar(&routes, "routes", false, "print the routes and end")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if routes {
			return server.PrintRoutes(p.out)
		}
		o := &slog.HandlerOptions{Level: level}
		switch format {
		case "text":
			cfg.Logger = slog.New(slog.NewTextHandler(p.err, o))
		case "json":
			cfg.Logger = slog.New(slog.NewJSONHandler(p.err, o))
		default:
			return usagef(c, "--log-format %q: it is text or json", format)
		}
		var err error
		if cfg.Data, err = filepath.Abs(cfg.Data); err != nil { // it is told to processes whose working directory is another
			return err
		}
		cfg.Version = readBuildVersion().Version
		cfg.OwnProgram, cfg.OwnGarbage = p.getenv("GOMAXPROCS") == "", p.getenv("GOGC") == ""
		if err := server.Divide(&cfg, os.Args, os.Environ()); err != nil {
			return err
		}
		server.TuneMemory(p.getenv)
		return p.serve(c.Context(), cfg)
	}
	return c
}

// serve runs a server until ctx is done.
func (p *program) serve(ctx context.Context, cfg server.Config) error {
	start := time.Now()
	s, err := server.Open(ctx, cfg)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	p.note("lambent %s serves, ready in %d ms", cfg.Version, time.Since(start).Milliseconds())
	p.note("  data       %s", cfg.Data)
	p.note("  token      %s", s.TokenFile())
	p.note("  isolation  %s", s.Isolation())
	fmt.Fprintln(p.out, s.URL())
	p.note("  runtimes   %s", strings.Join(s.RuntimeNames(), ", ")) // last: they are still looked for

	select {
	case err = <-served: // the listener broke
	case <-ctx.Done():
		if n := s.InFlight(); n > 0 {
			p.note("waiting for %d calls under way, %v at most; interrupt again to end at once", n, cfg.Grace)
		}
	}
	grace, cancel := context.WithTimeout(context.Background(), cfg.Grace)
	defer cancel()
	if closed := s.Close(grace); err == nil {
		err = closed
	}
	return err
}
