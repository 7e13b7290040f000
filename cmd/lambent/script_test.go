package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/rogpeppe/go-internal/testscript"

	"lambent/runtimes/rootfstest"
	"lambent/server"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lambent": main})
}

// TestScript runs testdata/script: each script is what a user types and sees,
// with a server of its own, in this process.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			data, err := publicDir()
			if err != nil {
				return err
			}
			env.Defer(func() { os.RemoveAll(data) })
			s, err := openServer(data)
			if err != nil {
				return err
			}
			served := make(chan struct{})
			go func() { defer close(served); _ = s.Serve() }()
			env.Defer(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if err := s.Close(ctx); err != nil {
					t.Errorf("closing the server: %v", err)
				}
				<-served
			})
			env.Setenv("LAMBENT_URL", s.URL())
			env.Setenv("LAMBENT_DATA", data)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("NO_COLOR", "1")
			env.Values[script{}] = env.T()
			return frameworks(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"until": until, "image": image},
		Condition: func(cond string) (bool, error) {
			installed, err := filepath.Glob(installedFrameworks)
			return cond == "root" && os.Geteuid() == 0 || cond == "framework" && (len(installed) > 0 || os.Getenv("LAMBENT_TEST_REQUIRE") != ""), err
		},
	})
}

// until runs a command again and again, until its standard output matches a pattern: of
// what happens by itself.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && pattern.MatchString(out) {
			return
		}
		if time.Since(begun) > 30*time.Second {
			ts.Fatalf("%q never says %q: %v, %s", args[1:], args[0], err, out)
		}
	}
}

// script is the key of its own testing.TB.
type script struct{}

// image writes an OCI layout directory with an image that has the system's Python and
// what another directory has, and tells the script what that runtime is called: $IMAGE_RUNTIME.
func image(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: image TO FROM")
	}
	t := ts.Value(script{}).(testing.TB)
	python := rootfstest.Python(t)
	var more bytes.Buffer
	w := tar.NewWriter(&more)
	ts.Check(w.AddFS(os.DirFS(ts.MkAbs(args[1]))))
	ts.Check(w.Close())
	dir, err := layout.Write(ts.MkAbs(args[0]), empty.Index)
	ts.Check(err)
	ts.Check(dir.AppendImage(rootfstest.Image(t, rootfstest.Layer(t, python.Tar), rootfstest.Layer(t, more.Bytes()))))
	ts.Setenv("IMAGE_RUNTIME", python.Runtime)
}

// installedFrameworks is what tools/setup.sh has of Google's, for each language.
const installedFrameworks = "../../.venv/functions-framework-*[0-9]"

// frameworks tells a script where those are: $FRAMEWORK_node, $FRAMEWORK_python.
func frameworks(env *testscript.Env) error {
	installed, err := filepath.Glob(installedFrameworks)
	for _, dir := range installed {
		abs, e := filepath.Abs(dir)
		err = errors.Join(err, e)
		env.Setenv("FRAMEWORK_"+strings.Split(filepath.Base(dir), "-")[2], abs)
	}
	return err
}

// publicDir returns a directory that any user can reach: as root, functions run
// under users of their own.
func publicDir() (string, error) {
	dir, err := os.MkdirTemp("/tmp", "lambent-script-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

func openServer(data string) (*server.Server, error) {
	cfg := server.DefaultConfig(os.Getenv) // PATH has the toolchain
	cfg.Listen, cfg.Data = "127.0.0.1:0", data
	cfg.GoCache, _ = goCaches(context.Background())                                                    // or the standard library would be compiled for each server
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})) // why there is no isolation, if there is none
	return server.Open(context.Background(), cfg)
}
