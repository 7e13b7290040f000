package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// startTimeout bounds how long the engine may take to come up, for a caller
// whose context does not. It reads its index, and after a crash all its blocks.
const startTimeout = 60 * time.Second

// An engine is the embedded server with our one connection to it.
type engine struct {
	server *server.Server
	conn   *nats.Conn
}

// startEngine runs JetStream on the files in dir. There is no listener and no
// credential: only this process can reach it, through memory.
func startEngine(ctx context.Context, dir string, log *slog.Logger) (*engine, error) {
	srv, err := server.NewServer(&server.Options{
		ServerName:             "lambent",
		DontListen:             true,
		NoSigs:                 true, // signals are main's
		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               dir,
		SyncAlways:             true,    // otherwise it acknowledges first and syncs every two minutes
		MaxPayload:             2 << 20, // a frame with an item of the largest size; records have a limit of their own
		// Bounds of its own would refuse writes for a figure taken at start; the
		// disk's real end is checkSpace's to see. Memory is for the state of watches.
		JetStreamMaxStore:  1 << 50,
		JetStreamMaxMemory: 64 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	report := &engineLog{log: log}
	srv.SetLoggerV2(report, log.Enabled(ctx, slog.LevelDebug), false, false)
	e := &engine{server: srv}
	srv.Start()
	wait := startTimeout
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline))
	}
	ready := srv.ReadyForConnections(wait) && srv.JetStreamEnabled()
	if fatal := report.fatal.Load(); fatal != nil {
		e.stop()
		return nil, fmt.Errorf("engine: %s", *fatal)
	}
	if !ready {
		e.stop()
		return nil, fmt.Errorf("engine: not ready after %v", wait.Round(time.Millisecond))
	}
	e.conn, err = nats.Connect("", nats.InProcessServer(srv), nats.Name("lambent"), nats.MaxReconnects(-1),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if !errors.Is(err, nats.ErrConnectionClosed) {
				log.Debug("engine connection", "err", err)
			}
		}))
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("engine: %w", err)
	}
	return e, nil
}

// stop closes the connection and waits until the server's files are closed.
func (e *engine) stop() {
	if e.conn != nil {
		e.conn.Close()
	}
	e.server.Shutdown()
	e.server.WaitForShutdown()
}

// An engineLog passes on what the engine says, quietly: what concerns a user
// comes back as the error of an operation.
type engineLog struct {
	log   *slog.Logger
	fatal atomic.Pointer[string] // why it could not start; the engine itself returns no error
}

func (l *engineLog) say(level slog.Level, format string, v ...any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "engine: "+fmt.Sprintf(format, v...))
	}
}

func (l *engineLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v...) }
func (l *engineLog) Warnf(format string, v ...any)   { l.say(slog.LevelDebug, format, v...) }
func (l *engineLog) Errorf(format string, v ...any)  { l.say(slog.LevelWarn, format, v...) }
func (l *engineLog) Debugf(format string, v ...any)  { l.say(slog.LevelDebug, format, v...) }
func (l *engineLog) Tracef(string, ...any)           {}
func (l *engineLog) Fatalf(format string, v ...any) {
	s := fmt.Sprintf(format, v...)
	l.fatal.CompareAndSwap(nil, &s)
	l.say(slog.LevelDebug, format, v...)
}
