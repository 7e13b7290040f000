package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/bundle"
	"lambent/sandbox"
)

// What the sandbox of a build has.
const (
	// sandboxDiskMB is what a build has of disk, and leastDiskMB what it has to do with where
	// no driver can give it that.
	sandboxDiskMB = 8192
	leastDiskMB   = 512

	// sandboxShare is the part of its share of the processors that a build has against
	// functions that are being served.
	sandboxShare = 0.1

	// lastWords is how long what is left of a build may keep its output open: long enough
	// for a slow disk to take what is on the way.
	lastWords = 10 * time.Second

	// maxFetched is how many bytes there may be of what a first stage fetches.
	maxFetched = 1 << 30

	// whole is what every answer ends with.
	whole = "that is all"
)

// missingTool is the status by which a recipe says that its last line names a program
// that is not there.
const missingTool = 86

// sandboxed builds by a recipe, out of the cache where it can, and puts the result
// into the store.
func (b *Builder) sandboxed(ctx context.Context, r *Request, rec *recipe, progress io.Writer) (bundle.Tree, error) {
	src, err := b.options.Trees.Path(r.Source)
	if err != nil {
		return bundle.Tree{}, err
	}
	p, err := rec.read(manifests{os.DirFS(src)})
	if err != nil {
		return bundle.Tree{}, err
	}
	done, err := b.turns.take(ctx, r.Name.Project, !p.compiles, progress)
	if err != nil {
		return bundle.Tree{}, err
	}
	defer done()
	work, err := os.MkdirTemp(b.options.WorkDir, "")
	if err != nil {
		return bundle.Tree{}, diskError(err)
	}
	defer os.RemoveAll(work)
	key, err := b.cacheKey(r, rec, src, p)
	if err != nil {
		return bundle.Tree{}, diskError(err)
	}
	var answer *os.File
	if !r.Fresh {
		answer = b.cache.open(key, p.locked)
	}
	kept := answer != nil
	if kept {
		say(progress, "nothing of what is installed has changed since the last build")
	} else if answer, err = b.stages(ctx, r, rec, p, src, work, progress); err != nil {
		return bundle.Tree{}, err
	}
	defer answer.Close()
	out := filepath.Join(work, "result")
	if err := untar(ctx, answer, out, b.options.MaxTree, b.options.MaxFiles); err != nil {
		return bundle.Tree{}, err
	}
	dirs := []string{out}
	if !p.all {
		if !p.compiles {
			if err := uncover(src, out); err != nil {
				return bundle.Tree{}, diskError(err)
			}
		}
		dirs = []string{src, out}
	}
	t, err := b.options.Trees.PutDirs(ctx, dirs...)
	if err == nil && !kept {
		if err := b.cache.keep(key, answer); err != nil { // the next build takes longer
			b.log.Warn("what a build has installed is not kept", "error", err)
		}
	}
	return t, err
}

// uncover removes the byte code of what the project has a module of its own for: it
// would be taken for that one's.
func uncover(src, out string) error {
	compiled, err := fs.Glob(os.DirFS(out), "__pycache__/*.pyc")
	if err != nil {
		return err
	}
	_ = fs.WalkDir(os.DirFS(src), ".", func(dir string, d fs.DirEntry, err error) error { // deeper only where both have a directory
		if err != nil || !d.IsDir() || dir == "." {
			return nil
		}
		if _, err := os.Lstat(filepath.Join(out, dir)); err != nil {
			return fs.SkipDir
		}
		more, err := fs.Glob(os.DirFS(out), path.Join(dir, "__pycache__/*.pyc"))
		compiled = append(compiled, more...)
		return err
	})
	for _, file := range compiled {
		dir, name := path.Split(file)
		module, _, _ := strings.Cut(name, ".")
		if _, err := os.Lstat(filepath.Join(src, dir, "..", module+".py")); err == nil {
			if err := os.Remove(filepath.Join(out, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// stages runs a recipe, and before it the first stage, if the plan has one. It returns a
// file with the recipe's answer.
func (b *Builder) stages(ctx context.Context, r *Request, rec *recipe, p plan, src, work string, progress io.Writer) (*os.File, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, b.options.Timeout, errTimeout)
	defer cancel()
	var fetched *os.File
	if p.first != nil {
		var err error
		if fetched, err = b.fetched(ctx, r, rec, *p.first, src, work, progress); err != nil {
			return nil, err
		}
		if fetched != nil {
			defer fetched.Close()
		}
	}
	answer, err := b.install(ctx, r, rec, p, src, fetched, filepath.Join(work, "answer.tar"), progress)
	if err == nil && fetched != nil && !p.locked { // its versions are as old as what it was made of
		if info, err := fetched.Stat(); err == nil {
			_ = os.Chtimes(answer.Name(), info.ModTime(), info.ModTime())
		}
	}
	return answer, err
}

// fetched returns the answer of a first stage, out of the cache where it is there. Where
// the stage fails for what it cannot see, nothing of it is kept and the answer is nil: the
// build, which sees all, says what is wrong, or is done without.
func (b *Builder) fetched(ctx context.Context, r *Request, rec *recipe, p plan, src, work string, progress io.Writer) (*os.File, error) {
	key, err := b.cacheKey(r, rec, src, p)
	if err != nil {
		return nil, diskError(err)
	}
	if !r.Fresh {
		if f := b.cache.open(key, p.locked); f != nil {
			say(progress, "what the manifests ask for is there from an earlier build")
			return f, nil
		}
	}
	say(progress, "fetching what the manifests ask for")
	f, err := b.install(ctx, r, rec, p, src, nil, filepath.Join(work, "fetched.tar"), progress)
	switch {
	case err == nil:
	case ctx.Err() == nil && (lambent.Is(err, lambent.Broken) || lambent.Is(err, lambent.TooLarge)):
		say(progress, "that cannot be done ahead of the build (%s): it fetches for itself", lambent.UserMessage(err))
		return nil, nil
	default:
		return nil, err
	}
	if err := b.cache.keep(key, f); err != nil { // the next build takes longer
		b.log.Warn("what a build has fetched is not kept", "error", err)
	}
	return f, nil
}

// install runs a recipe, or the first stage of it, and returns the file, at a path, with
// its answer. given is the answer of the first stage, or nil.
func (b *Builder) install(ctx context.Context, r *Request, rec *recipe, p plan, src string, given *os.File, path string, progress io.Writer) (_ *os.File, err error) {
	if p.sees != nil {
		seen, err := os.MkdirTemp(filepath.Dir(path), "")
		if err != nil {
			return nil, diskError(err)
		}
		if err := copySeen(src, seen, p.sees, p.empty); err != nil {
			return nil, diskError(err)
		}
		t, err := b.options.Trees.PutDirs(ctx, seen) // sandboxes see nothing but what is stored
		if err != nil {
			return nil, err
		}
		if src, err = b.options.Trees.Path(t.Digest); err != nil {
			return nil, err
		}
	}
	answer, err := os.Create(path)
	if err != nil {
		return nil, diskError(err)
	}
	defer func() {
		if err != nil {
			answer.Close()
		}
	}()
	said := &output{to: progress, left: maxOutput}
	task := sandbox.Task{Code: src, MemoryMB: b.options.MemoryMB, TmpMB: sandboxDiskMB, Network: b.options.Network}
	exit, err := b.run(ctx, r.Runtime, task, rec.script, p, given, answer, said)
	if lambent.Is(err, lambent.Unsupported) {
		task.TmpMB = leastDiskMB
		exit, err = b.run(ctx, r.Runtime, task, rec.script, p, given, answer, said)
	}
	if err != nil {
		return nil, err
	}
	if exit.Exec != 0 || exit.Signal != 0 || exit.Code != 0 { // a process that is missed, it has lived without
		return nil, rec.failed(exit, said, task)
	}
	if err := checkWhole(answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// checkWhole refuses an answer that was cut off: a tar file may look as if it ended there.
func checkWhole(answer *os.File) error {
	end := make([]byte, len(whole))
	size, err := answer.Seek(0, io.SeekEnd)
	if err != nil {
		return diskError(err)
	}
	if _, err := answer.ReadAt(end, max(0, size-int64(len(end)))); err != nil && err != io.EOF {
		return diskError(err)
	}
	if string(end) != whole {
		return lambent.Errorf(lambent.Broken, "build.run", "the build's result broke off after %d bytes", size)
	}
	return nil
}

// run runs a script in a sandbox of its own, with what it is given coming from descriptor
// 3, what it answers there going to answer, and the rest of what it says to said.
func (b *Builder) run(ctx context.Context, rt lambent.Runtime, task sandbox.Task, script string, p plan, given *os.File, answer, said io.Writer) (exit sandbox.Exit, err error) {
	const op = "build.run"
	interpreter := ""
	if len(rt.Boot) > 0 {
		interpreter = rt.Boot[0]
	} else {
		rt.Boot = []string{"/bin/sh"}
	}
	rt.BootLate, rt.Ahead = true, false
	sb, err := b.options.Driver.Park(ctx, rt)
	if err != nil {
		return exit, err
	}
	defer sb.Output().Close()
	defer sb.Destroy()
	stop := context.AfterFunc(ctx, func() { _ = sb.Destroy() })
	defer stop()
	tmp := sb.Paths(task).Tmp
	env := append([]string{
		"PATH=" + searchPath(interpreter, b.options.Path), "LANG=C.UTF-8", "HOME=" + tmp + "/home", "TMPDIR=" + tmp, "CI=1", "NO_COLOR=1", "INTERPRETER=" + interpreter,
	}, b.options.Env...)
	if p.all {
		env = append(env, "BUILD_ALL=yes")
	}
	if p.fetch {
		env = append(env, "BUILD_FETCH=yes")
	}
	size := int64(0)
	if given != nil {
		info, err := given.Stat()
		if err != nil {
			return exit, diskError(err)
		}
		size = info.Size()
		env = append(env, fmt.Sprintf("BUILD_GIVEN=%d", size))
	}
	task.Start = sandbox.Start{Argv: []string{"/bin/sh", "-c", script}, Env: env}
	if err := sb.Assign(ctx, task); err != nil {
		return exit, orEnded(ctx, err)
	}
	if s, ok := sb.(sandbox.Sharer); ok {
		if err := s.Share(sandboxShare); err != nil {
			return exit, orEnded(ctx, err)
		}
	}
	spoken := make(chan struct{})
	go func() {
		defer close(spoken)
		_, _ = io.Copy(said, sb.Output())
	}()
	gave := make(chan struct{})
	go func() {
		defer close(gave)
		if given != nil {
			_, _ = io.Copy(sb.Agent(), io.NewSectionReader(given, 0, size)) // the script misses what does not come
		}
	}()
	// Not every driver reaches a process that has left its group: what it holds open is
	// not waited for.
	ending := make(chan struct{})
	go func() {
		defer close(ending)
		<-sb.Done()
		_ = sb.Agent().SetDeadline(time.Now().Add(lastWords))
		_ = sb.Output().SetReadDeadline(time.Now().Add(lastWords))
	}()
	most := b.options.MaxTree
	if p.fetch {
		most = maxFetched
	}
	limit := most + most/8 + 64<<20 // with the heads of entries
	n, err := io.Copy(answer, io.LimitReader(sb.Agent(), limit))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	if err == nil && n < limit {
		select {
		case <-sb.Done():
		case <-ctx.Done():
		}
	}
	if err := sb.Destroy(); err != nil {
		b.log.Warn("the sandbox of a build cannot be removed", "error", err)
	}
	<-ending
	<-spoken
	<-gave
	switch {
	case ctx.Err() != nil:
		return exit, ended(ctx)
	case n >= limit:
		return exit, lambent.Errorf(lambent.TooLarge, op, "what the build makes is over the limit of %d MB", most>>20).
			WithHint("leave out what the function does not need, or have the runtime bring it: lambent runtime add RUNTIME --packages ...")
	case err != nil:
		return exit, diskError(err)
	}
	return sb.Exit(), nil
}

// searchPath is where a build finds its tools: beside the interpreter, where the system
// has them, and where the server looks, as far as a sandbox shows that.
func searchPath(interpreter, servers string) string {
	dirs := []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	if interpreter != "" {
		dirs = append([]string{filepath.Dir(interpreter)}, dirs...)
	}
	if servers != "" {
		dirs = append(dirs, servers)
	}
	return strings.Join(dirs, ":")
}

// failed is the error for a recipe that did not come to its end. All that it said has
// gone to whoever waits for the build.
func (rec *recipe) failed(exit sandbox.Exit, said *output, task sandbox.Task) error {
	op := "build." + rec.tool
	last := lastLine(said.tail())
	has := func(words ...string) bool {
		for _, w := range words {
			if bytes.Contains(said.tail(), []byte(w)) {
				return true
			}
		}
		return false
	}
	switch {
	case exit.Exec != 0:
		return lambent.Errorf(lambent.Unsupported, op, "the runtime has no /bin/sh, which builds are run by").WithHint("%s", rec.vendor)
	case exit.Code == missingTool:
		return lambent.Errorf(lambent.Unsupported, op, "the build needs %s, which is not on the server", last).WithHint("%s", rec.vendor)
	case exit.OOM, has("JavaScript heap out of memory"):
		return lambent.Errorf(lambent.Broken, op, "%s needs more than the %d MB of memory that builds have", rec.tool, task.MemoryMB).WithHint("%s", rec.vendor)
	case has("No space left on device", "ENOSPC"):
		return lambent.Errorf(lambent.Broken, op, "%s needs more than the %d MB of disk that builds have, or the server's disk is full", rec.tool, task.TmpMB).WithHint("%s", rec.vendor)
	case has("EAI_AGAIN", "ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "Temporary failure in name resolution", "Failed to establish a new connection", "Could not resolve host", "Couldn't connect to server"):
		return lambent.Errorf(lambent.Broken, op, "%s cannot reach what it installs from: %s", rec.tool, last).WithHint("%s", rec.vendor)
	}
	if last == "" {
		last = exit.String()
	}
	return lambent.Errorf(lambent.Broken, op, "%s failed: %s (see the build's output)", rec.tool, last)
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*[a-zA-Z]")

// lastLine is where installers say what went wrong, but for what they say of their own
// logs; Maven says it first, and then much else.
func lastLine(said []byte) string {
	last := ""
	for line := range strings.Lines(escapes.ReplaceAllString(string(said), "")) {
		line = strings.TrimSpace(line)
		if why, ok := strings.CutPrefix(line, "[ERROR] "); ok && strings.TrimSpace(why) != "" {
			return fmt.Sprintf("%.300s", strings.TrimSpace(why))
		}
		if line == "" || strings.HasPrefix(line, "[notice]") || strings.Contains(line, "A complete log of this run") || strings.Contains(line, "-debug-0.log") {
			continue
		}
		last = line
	}
	return fmt.Sprintf("%.300s", last)
}

func say(w io.Writer, format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// ended is the error of a build whose ctx ended.
func ended(ctx context.Context) error {
	if context.Cause(ctx) == errTimeout {
		return lambent.Errorf(lambent.Broken, "build", "the build was ended because it took too long")
	}
	return lambent.Errorf(lambent.Canceled, "build", "given up during the build: %w", context.Cause(ctx))
}

func orEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return err
}

// defaultTimeout is how long a build may take.
const defaultTimeout = 10 * time.Minute

// turns are the builds that may be under way: some in all, and one of each project.
type turns struct {
	all      chan struct{}
	mu       sync.Mutex // guards projects
	projects map[string]chan struct{}
}

func newTurns(atOnce int) *turns {
	return &turns{all: make(chan struct{}, atOnce), projects: map[string]chan struct{}{}}
}

// take waits for a turn of a project's, or is an error of the kind Throttled where it would have
// to and does not wait. done ends the turn.
func (t *turns) take(ctx context.Context, project string, waits bool, progress io.Writer) (done func(), err error) {
	t.mu.Lock()
	own := t.projects[project]
	if own == nil {
		own = make(chan struct{}, 1)
		t.projects[project] = own
	}
	t.mu.Unlock()
	var taken []chan struct{}
	done = func() {
		for _, turn := range taken {
			<-turn
		}
	}
	for _, turn := range []chan struct{}{own, t.all} {
		select {
		case turn <- struct{}{}:
		default:
			if !waits {
				done()
				return nil, lambent.Errorf(lambent.Throttled, "build", "other builds are under way")
			}
			say(progress, "waiting for other builds to end")
			select {
			case turn <- struct{}{}:
			case <-ctx.Done():
				done()
				return nil, ended(ctx)
			}
		}
		taken = append(taken, turn)
	}
	return done, nil
}
