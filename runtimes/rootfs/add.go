package rootfs

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lambent"
	"lambent/runtimes"
)

const addOp = "rootfs.Add"

// Where a runtime may come from beside an image's reference.
const (
	FromHost = "host"
	FromNPM  = "npm"
	FromTar  = "tar"
)

// A Request is a runtime to be added, or to be made from something else.
type Request struct {
	Name     string
	From     string    // "host", "npm" or an image; empty: what it comes from now, or the usual
	Tar      io.Reader // instead of From: an image or a root file system as a tar file, gzip and zstd allowed
	Packages []string  // nil: those it has
}

// Add brings a runtime, and returns once it is on the disk. It replaces what was
// added under the name before. How far it is goes to told, line by line.
//
// Refusals are Invalid, TooLarge, NotFound or Exists; what could not be reached is
// Unavailable, a full disk NoSpace. Nothing is left of them.
func (s *Store) Add(ctx context.Context, r Request, told io.Writer) (Added, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	a, err := s.add(ctx, r, &progress{to: told, stop: stop})
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && lambent.Is(err, lambent.Canceled) {
			return Added{}, lambent.Errorf(lambent.Unavailable, addOp, "given up: %w", cause)
		}
		return Added{}, s.fileError(addOp, err)
	}
	return a, nil
}

func (s *Store) add(ctx context.Context, r Request, p *progress) (Added, error) {
	a := Added{Name: r.Name, From: r.From, Packages: r.Packages, Added: time.Now().UTC().Truncate(time.Second)}
	old, release, had := s.find(func(a Added) bool { return a.Name == r.Name })
	defer release()
	keep, err := s.decide(&a, r, old, had)
	if err != nil {
		return a, err
	}
	work, err := os.MkdirTemp(s.path(tmpDir), "")
	if err != nil {
		return a, err
	}
	defer os.RemoveAll(work)                      // what is left of it, Open removes
	if err := os.Chmod(work, 0o711); err != nil { // installers and sandboxes pass through
		return a, err
	}
	if keep {
		a.From, a.Image, a.Tree, a.Rooted, a.Program, a.Version, a.Env = old.From, old.Image, old.Tree, old.Rooted, old.Program, old.Version, old.Env
	} else if a.From != FromHost {
		release, err := s.fetch(ctx, &a, r, work, p)
		if err != nil {
			return a, err
		}
		defer release() // if it is not in the records by then, it goes
	}
	if len(a.Packages) > 0 {
		library, err := s.install(ctx, &a, work, p)
		if err != nil {
			return a, err
		}
		release, err := s.keep(ctx, &a.Library, library, 0o444)
		if err != nil {
			return a, err
		}
		defer release()
	}
	if ctx.Err() != nil {
		return a, canceled(ctx)
	}
	return a, s.commit(&a)
}

// keep makes a directory that was filled a tree in its place, until release at least.
func (s *Store) keep(ctx context.Context, t **Tree, dir string, more fs.FileMode) (release func(), err error) {
	made, err := s.seal(ctx, dir, more)
	if err != nil {
		return nil, err
	}
	switch {
	case made.Files == 0:
		return nil, lambent.Errorf(lambent.Invalid, addOp, "there are no files in it")
	case made.Bytes > s.o.MaxBytes:
		return nil, (&unpacker{max: s.o.MaxBytes}).tooBig()
	}
	*t = made
	return s.land(made, dir)
}

// decide completes what is asked for, and refuses what cannot be. keep says that
// the runtime stays what it is apart from its packages.
func (s *Store) decide(a *Added, r Request, old Added, had bool) (keep bool, err error) {
	family, err := runtimes.Family(a.Name)
	if err != nil {
		return false, err
	}
	host := family == "" || s.o.Interpreters()[a.Name] != ""
	if r.Tar != nil {
		a.From = FromTar
	}
	if a.From == "" {
		switch {
		case r.Packages == nil && had:
			return false, lambent.Errorf(lambent.Exists, addOp, "runtime %s is here already, from %s", a.Name, old.From).
				WithHint("lambent runtime add %s --from %s", a.Name, old.From)
		case r.Packages == nil && host:
			return false, lambent.Errorf(lambent.Exists, addOp, "runtime %s is here already, on the server's machine", a.Name).WithHint("lambent runtime list")
		case had:
			keep = true
		case host:
			a.From = FromHost
		default:
			a.From = usualSource(a.Name, family)
		}
	}
	if r.Packages == nil && had {
		a.Packages = old.Packages
	}
	if err := checkPackages(a.Name, a.Packages); err != nil {
		return false, err
	}
	switch {
	case keep:
	case a.From == FromHost && !host:
		return false, lambent.Errorf(lambent.NotFound, addOp, "the server's machine has no %s that functions could use", a.Name).WithHint("lambent runtime add %s", a.Name)
	case a.From == FromNPM && family != "nodejs":
		return false, lambent.Errorf(lambent.Invalid, addOp, "npm has interpreters of Node.js only, not %s", a.Name).
			WithHint("lambent runtime add %s --from %s", a.Name, cmp.Or(usualSource(a.Name, family), "IMAGE"))
	case a.From != FromHost && a.From != FromNPM:
		if s.o.NoRoots != nil {
			return false, s.o.NoRoots
		}
		a.Rooted = true
	}
	return keep, nil
}

// usualSource is where a runtime comes from when nobody says.
func usualSource(name, family string) string {
	switch family {
	case "python":
		return "docker.io/library/python:" + strings.TrimPrefix(name, "python") + "-slim"
	case "nodejs":
		return FromNPM
	}
	return "public.ecr.aws/lambda/provided:" + cmp.Or(strings.TrimPrefix(strings.TrimPrefix(name, "provided"), "."), "al2023")
}

// fetch brings the tree of a runtime, or finds that its image is here already, and
// identifies the interpreter in it. The tree stays until release.
func (s *Store) fetch(ctx context.Context, a *Added, r Request, work string, p *progress) (release func(), err error) {
	search := "/bin"
	if a.From == FromNPM {
		release, err = s.fetchNode(ctx, a, work, p)
	} else {
		release, search, err = s.fetchRoot(ctx, a, r, work, p)
	}
	if err != nil {
		return nil, err
	}
	p.say("looking for %s in it", a.Name)
	if err := s.identify(ctx, a, search); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func (s *Store) fetchNode(ctx context.Context, a *Added, work string, p *progress) (release func(), err error) {
	tree := filepath.Join(work, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return nil, err
	}
	major := strings.TrimSuffix(strings.TrimPrefix(a.Name, "nodejs"), ".x")
	if err := s.npmNode(ctx, major, tree, p); err != nil {
		return nil, err
	}
	return s.keep(ctx, &a.Tree, tree, 0)
}

// fetchRoot returns the PATH of the image, too, if it is one.
func (s *Store) fetchRoot(ctx context.Context, a *Added, r Request, work string, p *progress) (release func(), search string, err error) {
	i, plain, err := s.open(ctx, a, r, work, p)
	if err != nil {
		return nil, "", err
	}
	if plain != nil {
		defer plain.file.Close()
	}
	if i != nil {
		if err := i.check(s.o.MaxBytes); err != nil {
			return nil, "", err
		}
		a.Image, search = i.digest, i.env("PATH")
		if l := i.env(libraryPath); l != "" {
			a.Env = map[string]string{libraryPath: l}
		}
		if same, release, ok := s.find(func(b Added) bool { return a.Image != "" && a.Image == b.Image }); ok {
			a.Tree = same.Tree
			return release, search, nil
		}
	}
	tree := filepath.Join(work, "tree")
	if err := s.unpackRoot(ctx, i, plain, tree, p); err != nil {
		return nil, "", err
	}
	release, err = s.keep(ctx, &a.Tree, tree, 0)
	return release, search, err
}

// open finds the image, or takes in the tar file; that is all there is where it
// holds no image.
func (s *Store) open(ctx context.Context, a *Added, r Request, work string, p *progress) (*image, *archive, error) {
	if r.Tar == nil {
		p.say("asking for %s", a.From)
		i, err := s.pull(ctx, a.From)
		return i, nil, err
	}
	archive, err := spool(ctx, p.watch(r.Tar, "the file", 0), work, s.o.MaxBytes, s.o.MaxFiles)
	if err != nil {
		return nil, nil, err
	}
	i, err := imageArchive{archive}.image()
	if err != nil {
		archive.file.Close()
		return nil, nil, err
	}
	return i, archive, nil
}

// unpackRoot makes a root file system of an image, or of a tar file that is one.
func (s *Store) unpackRoot(ctx context.Context, i *image, plain *archive, tree string, p *progress) error {
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	u := s.newUnpacker(ctx, root)
	if i == nil {
		return u.unpack(plain.whole())
	}
	return i.unpackInto(u, p)
}

// commit puts what was made into the records: from there on it is added. What the
// runtime was made of before goes.
func (s *Store) commit(a *Added) error {
	s.mu.Lock()
	err := s.writeLocked(addOp, func(added map[string]Added) {
		if a.Tree == nil && a.Library == nil {
			delete(added, a.Name) // the host's own again
			return
		}
		added[a.Name] = *a
	})
	s.mu.Unlock()
	return err
}
