package lambda

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"lambent"
)

// Some environment only works at exec: NODE_OPTIONS, LD_PRELOAD, PYTHONHASHSEED,
// AWS_LAMBDA_EXEC_WRAPPER. The agent of a function that has some is booted when its
// code and its environment are known, and serves as any other does.

// wrapperVariable names a program that starts the runtime in our place: its
// arguments are what we would have run.
const wrapperVariable = "AWS_LAMBDA_EXEC_WRAPPER"

// errNoAgent is the end of an agent, or of what should have become one, before it
// was ready.
var errNoAgent = errors.New("the agent does not get ready")

// late is what boots the agent in the function's environment.
func (in *instance) late(env map[string]string) []string {
	argv := withoutContradictions(in.runtime.Boot, env["NODE_OPTIONS"])
	if in.wrapper = env[wrapperVariable]; in.wrapper != "" {
		argv = append([]string{in.inside(in.wrapper)}, argv...)
	}
	return argv
}

// booted waits until an agent that boots late is ready. What goes wrong is the
// code's doing: its options, its wrapper, its library.
func booted(ctx context.Context, agent net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = agent.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	hello := make([]byte, len(agentHello))
	_, err := io.ReadFull(agent, hello)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return errNoAgent
	case string(hello) != agentHello:
		return newFault(lambent.FaultInit, "Runtime.InvalidEntrypoint", "", "Something has written to descriptor 3, which is the runtime's own")
	}
	return nil
}

// orExit is err, or how the process ended if that is what err is about.
func (in *instance) orExit(ctx context.Context, err error) error {
	if !errors.Is(err, errNoAgent) {
		return err
	}
	select { // the connection may be closed, and the process live on
	case <-in.sandbox.Done():
		return in.exitedDuringInit()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wrapperFault says why a wrapper does not run, with the status that a shell, which
// is what starts it on AWS, would have ended with.
func wrapperFault(wrapper string, errno syscall.Errno) error {
	why, status := "is no program: the first line of a script names its interpreter, such as #!/bin/sh", "126"
	switch errno {
	case syscall.ENOENT:
		why, status = "does not exist, or what its first line names does not", "127"
	case syscall.EACCES:
		why = "is not an executable"
	}
	return newFault(lambent.FaultInit, "Runtime.ExitError", lambent.NewID(),
		"Runtime exited with error: exit status "+status+" ("+wrapperVariable+": "+wrapper+" "+why+")")
}

// inside is a path that is meant as AWS has it, as this sandbox has it: a driver
// without a file system of its own has the code elsewhere.
func (in *instance) inside(path string) string {
	for at, here := range map[string]string{"/var/task/": in.unit.Paths.Task, "/opt/": in.unit.Paths.Opt} {
		if rest, ok := strings.CutPrefix(path, at); ok && here != "" {
			return here + "/" + rest
		}
	}
	return path
}

// withoutContradictions takes the options that we turn off, as AWS does, out of
// argv where the function's own turn them on: those of a command line would win.
func withoutContradictions(argv []string, options string) []string {
	said := strings.Fields(options)
	return slices.DeleteFunc(slices.Clone(argv), func(arg string) bool {
		off, ok := strings.CutPrefix(arg, "--no-")
		return ok && slices.Contains(said, "--"+off)
	})
}

// latePackages is the directory of the runtime's packages, for an agent that is
// booted late. It is no argument of those: wrappers take the last one for the
// program of the runtime, as it is on AWS.
func (in *instance) latePackages() string {
	if !in.runtime.BootLate {
		return ""
	}
	return in.runtime.PackagesAt
}

// nodePath is what AWS has in NODE_PATH: a wrapper may add to it.
func (in *instance) nodePath() string {
	major := strings.TrimSuffix(strings.TrimPrefix(in.unit.Revision.Config.Runtime, "nodejs"), ".x")
	var dirs []string
	if opt := in.unit.Paths.Opt; opt != "" {
		dirs = append(dirs, opt+"/nodejs/node"+major+"/node_modules", opt+"/nodejs/node_modules")
	}
	if p := in.runtime.PackagesAt; p != "" {
		dirs = append(dirs, p+"/node_modules")
	}
	return strings.Join(append(dirs, in.unit.Paths.Task), ":")
}
