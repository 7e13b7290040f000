// Package rootfs fetches and keeps what runtimes are made of beside the host's own
// interpreters: root file systems from OCI images and tar files, Node.js from npm,
// and packages that handlers import without bringing them.
//
// What it guarantees:
//   - What is added is named by its content, is whole, and is on the disk before it
//     is listed; an add that fails or is cut off leaves nothing.
//   - Whatever an image or an archive says, nothing is written outside of its
//     directory, no device and no set-user-id bit comes with it, and everything
//     belongs to the server's user. Layers, blobs and packages of npm are what their
//     digests say.
//   - An interpreter was run, in a sandbox, and is of the version that it is listed
//     under. Nothing that was fetched runs anywhere else.
//   - A tree that no runtime names is removed, but not before the last sandbox that
//     uses it has ended.
//
// What it does not do: it knows no functions; whether a runtime is still needed is
// for the server to ask.
package rootfs

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"lambent"
	"lambent/internal/atomicfile"
	"lambent/runtimes"
	"lambent/sandbox"
)

// Options configure a Store. Only Dir must be there.
type Options struct {
	Dir string // of the store; one process at a time

	// Driver makes the sandboxes that interpreters are run in, to say their version and
	// to compile packages. nil: runtimes with an interpreter cannot be added.
	Driver sandbox.Driver

	// PackagesSeen is where its sandboxes see the packages of a runtime; empty: where
	// they are.
	PackagesSeen string

	// Interpreters returns the host's own, by the names of the runtimes that they are.
	// nil: it has none.
	Interpreters func() map[string]string

	// NoRoots is why nothing here can run in a root file system; nil: it can.
	NoRoots error

	// Agents is where its sandboxes see the agents. Empty: nothing of the packages is
	// loaded ahead, as without PackagesSeen.
	Agents string

	Path []string // where npm is looked for
	Env  []string // of pip and npm, beside what they need

	Registry  string            // of npm; empty: the public one
	Transport http.RoundTripper // to registries; nil: the usual one

	MaxBytes int64 // of one root file system or set of packages; 0: 4 GB
	MaxFiles int   // in it; 0: 500,000
}

// An Added is a runtime that was added.
type Added struct {
	Name     string            `json:"name"`
	From     string            `json:"from"`               // "host", "npm", an image's reference, or "tar"
	Image    string            `json:"image,omitempty"`    // digest of its manifest
	Tree     *Tree             `json:"tree,omitempty"`     // nil: the host's interpreter
	Rooted   bool              `json:"rooted,omitempty"`   // Tree is a root file system
	Program  string            `json:"program,omitempty"`  // the interpreter, in Tree
	Version  string            `json:"version,omitempty"`  // as the interpreter said
	Env      map[string]string `json:"env,omitempty"`      // that the interpreter needs
	Packages []string          `json:"packages,omitempty"` // as they were asked for
	Library  *Tree             `json:"library,omitempty"`  // of the packages
	Preloads string            `json:"preloads,omitempty"` // what of them can be loaded ahead
	Added    time.Time         `json:"added"`
}

// A Tree is a directory that never changes.
type Tree struct {
	Dir    string `json:"dir"` // below the store's; a name that is never used again
	Digest string `json:"digest"`
	Bytes  int64  `json:"bytes"`
	Files  int    `json:"files"`
}

// Bytes is how much disk the runtime takes.
func (a *Added) Bytes() (n int64) {
	for _, t := range []*Tree{a.Tree, a.Library} {
		if t != nil {
			n += t.Bytes
		}
	}
	return n
}

// A Store keeps what was added below one directory. Its methods may be called
// concurrently.
//
//	runtimes.json    what was added
//	trees/           root file systems, interpreters and packages
//	tmp/, trash/     what is coming and going; emptied by Open
type Store struct {
	o Options

	mu    sync.Mutex
	added map[string]Added // by name
	held  map[string]int   // trees that sandboxes use, by their paths
}

const (
	recordFile    = "runtimes.json"
	recordVersion = 1
	treesDir      = "trees"
	tmpDir        = "tmp"
	trashDir      = "trash"
)

// records is the content of recordFile.
type records struct {
	Version  int     `json:"version"`
	Runtimes []Added `json:"runtimes"`
}

// Open opens the store, makes it where it is missing, and removes what nothing
// refers to.
func Open(o Options) (*Store, error) {
	const op = "rootfs.Open"
	o.MaxBytes, o.MaxFiles = cmp.Or(o.MaxBytes, 4<<30), cmp.Or(o.MaxFiles, 500_000)
	if o.Interpreters == nil {
		o.Interpreters = func() map[string]string { return nil }
	}
	s := &Store{o: o, added: map[string]Added{}, held: map[string]int{}}
	for _, d := range []string{tmpDir, trashDir} {
		if err := os.RemoveAll(s.path(d)); err != nil {
			return nil, s.fileError(op, err)
		}
	}
	// Functions and interpreters run under other users and must get through, whatever the umask.
	for _, d := range []struct {
		name string
		perm fs.FileMode
	}{{".", 0o755}, {treesDir, 0o755}, {tmpDir, 0o711}, {trashDir, 0o700}} {
		if err := errors.Join(os.MkdirAll(s.path(d.name), d.perm), os.Chmod(s.path(d.name), d.perm)); err != nil {
			return nil, s.fileError(op, err)
		}
	}
	b, err := os.ReadFile(s.path(recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, s.sweep(op)
	}
	if err != nil {
		return nil, s.fileError(op, err)
	}
	var r records
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, lambent.Errorf(lambent.Internal, op, "%s is damaged: %w", s.path(recordFile), err)
	}
	if r.Version != recordVersion {
		return nil, lambent.Errorf(lambent.Unsupported, op, "%s is of another release of lambent (format %d, not %d)", s.path(recordFile), r.Version, recordVersion)
	}
	for _, a := range r.Runtimes {
		s.added[a.Name] = a
	}
	return s, s.sweep(op)
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.o.Dir}, elem...)...)
}

// List returns what was added, sorted by name.
func (s *Store) List() []Added {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Added, 0, len(s.added))
	for _, name := range slices.Sorted(maps.Keys(s.added)) {
		list = append(list, s.added[name])
	}
	return list
}

// Path is where a tree is on the host.
func (s *Store) Path(t *Tree) string { return s.path(treesDir, t.Dir) }

// Runtime describes what was added to those who boot it. agents is where its
// sandboxes see the agents. It must not be one of the host's.
func (s *Store) Runtime(a Added, agents string) (lambent.Runtime, error) {
	program := a.Program
	if !a.Rooted {
		program = filepath.Join(s.Path(a.Tree), program)
	}
	rt, err := runtimes.Describe(a.Name, program, a.Version, agents)
	if err != nil {
		return rt, err
	}
	if a.Rooted {
		rt.Root = s.Path(a.Tree)
	}
	if len(a.Env) > 0 {
		if rt.Env == nil {
			rt.Env = map[string]string{}
		}
		maps.Copy(rt.Env, a.Env)
	}
	rt.Note = a.From
	if a.Version != "" {
		rt.Note += " (" + a.Version + ")"
	}
	return s.WithPackages(rt, a), nil
}

// WithPackages gives a runtime the packages that were added to it.
func (s *Store) WithPackages(rt lambent.Runtime, a Added) lambent.Runtime {
	if a.Library == nil {
		return rt
	}
	dir := s.Path(a.Library)
	rt.Note += ", with " + strings.Join(a.Packages, ", ")
	rt.Preloads = a.Preloads
	return runtimes.WithPackages(rt, dir, cmp.Or(s.o.PackagesSeen, dir))
}

// Remove forgets what was added under a name; what only that was made of is
// removed once no sandbox uses it.
func (s *Store) Remove(name string) error {
	const op = "rootfs.Remove"
	if _, err := runtimes.Family(name); err != nil {
		return err
	}
	s.mu.Lock()
	if _, ok := s.added[name]; !ok {
		s.mu.Unlock()
		return lambent.Errorf(lambent.NotFound, op, "runtime %s was not added: there is nothing to remove", name).WithHint("lambent runtime list")
	}
	err := s.writeLocked(op, func(added map[string]Added) { delete(added, name) })
	s.mu.Unlock()
	return errors.Join(err, s.sweep(op))
}

// Hold keeps the trees of a runtime until release is called, which must be once. It
// returns nil for a runtime that has none.
func (s *Store) Hold(rt lambent.Runtime) (release func()) {
	var trees []string
	for _, p := range append([]string{rt.Root, rt.Packages}, rt.Boot...) {
		if dir, below := strings.CutPrefix(p, s.path(treesDir)+string(filepath.Separator)); below {
			dir, _, _ = strings.Cut(dir, string(filepath.Separator))
			trees = append(trees, dir)
		}
	}
	if len(trees) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holdLocked(trees)
}

// find returns what was added and fits, and keeps its trees until release.
func (s *Store) find(fits func(Added) bool) (_ Added, release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.added {
		if fits(a) {
			var trees []string
			for _, t := range []*Tree{a.Tree, a.Library} {
				if t != nil {
					trees = append(trees, t.Dir)
				}
			}
			return a, s.holdLocked(trees), true
		}
	}
	return Added{}, func() {}, false
}

func (s *Store) holdLocked(trees []string) (release func()) {
	for _, t := range trees {
		s.held[t]++
	}
	return func() {
		s.mu.Lock()
		for _, t := range trees {
			if s.held[t]--; s.held[t] == 0 {
				delete(s.held, t)
			}
		}
		s.mu.Unlock()
		_ = s.sweep("rootfs.Hold") // what it could not remove, Open does
	}
}

// writeLocked changes the records, on the disk and then here. The caller holds mu.
func (s *Store) writeLocked(op string, change func(map[string]Added)) error {
	next := maps.Clone(s.added)
	change(next)
	r := records{Version: recordVersion}
	for _, name := range slices.Sorted(maps.Keys(next)) {
		r.Runtimes = append(r.Runtimes, next[name])
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = atomicfile.Write(s.path(recordFile), append(b, '\n'), 0o600)
	}
	if err != nil {
		return s.fileError(op, err)
	}
	s.added = next
	return nil
}

// sweep removes the trees that no runtime names and no sandbox uses.
func (s *Store) sweep(op string) error {
	bin, err := os.MkdirTemp(s.path(trashDir), "")
	if err != nil {
		return s.fileError(op, err)
	}
	defer os.RemoveAll(bin) // what is left of it, Open removes
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.path(treesDir))
	if err != nil {
		return s.fileError(op, err)
	}
	used := maps.Clone(s.held)
	for _, a := range s.added {
		for _, t := range []*Tree{a.Tree, a.Library} {
			if t != nil {
				used[t.Dir]++
			}
		}
	}
	for _, e := range entries {
		if used[e.Name()] == 0 {
			if err := os.Rename(s.path(treesDir, e.Name()), filepath.Join(bin, e.Name())); err != nil {
				return s.fileError(op, err)
			}
		}
	}
	return nil
}

// land puts a tree that was made in its place, or takes the one with the same
// content that is there, and keeps it until release.
func (s *Store) land(t *Tree, from string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Dir = s.sameLocked(t.Digest); t.Dir == "" {
		t.Dir = freshName(t.Digest)
		if err := os.Rename(from, s.Path(t)); err != nil {
			return nil, err
		}
	}
	if err := atomicfile.SyncDir(s.path(treesDir)); err != nil {
		return nil, err // nobody names or holds it: it is swept
	}
	return s.holdLocked([]string{t.Dir}), nil
}

// sameLocked returns the place of a tree that is in the records; "" if it is not.
func (s *Store) sameLocked(digest string) string {
	for _, a := range s.added {
		for _, t := range []*Tree{a.Tree, a.Library} {
			if t != nil && t.Digest == digest {
				return t.Dir
			}
		}
	}
	return ""
}

// freshName names a tree. A driver may still show sandboxes a tree that is being
// removed, so that the same content gets another path when it comes back.
func freshName(digest string) string {
	var b [4]byte
	rand.Read(b[:])
	return digest + "-" + hex.EncodeToString(b[:])
}

// fileError phrases a failure of the disk below the store. A full one is for the
// caller to know; anything else is the platform's own trouble.
func (s *Store) fileError(op string, err error) error {
	if _, ours := errors.AsType[*lambent.Error](err); ours {
		return err
	}
	if isFull(err) {
		return lambent.Errorf(lambent.NoSpace, op, "no space is left on the disk of the server's runtimes %s: nothing was added", s.o.Dir).
			WithHint("df -h %s", s.o.Dir)
	}
	return lambent.Errorf(lambent.Internal, op, "%w", err)
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
