package bundle

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"lambent"
)

// A writer writes one tree into an empty directory of the store and computes
// its digest on the way: the sha256 of a manifest that has, depth first and in
// the order of names, one record for each directory ("d", path), file ("f" or
// "x", path, sha256) and link ("l", path, target), every field ended by a NUL.
type writer struct {
	ctx      context.Context
	op, dir  string
	manifest hash.Hash
	left     int64 // bytes that may still come
	max      int64
	buf      []byte
	syncs    *syncer
}

// Files' times mean nothing once they are content-addressed; this one is the
// earliest that zip archives can say.
var fixedTime = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Store) write(ctx context.Context, t *tree, path string) (digest string, size int64, err error) {
	w := &writer{
		ctx: ctx, op: t.op, dir: s.dir, manifest: sha256.New(),
		left: s.limits.MaxTree, max: s.limits.MaxTree, buf: make([]byte, 128<<10), syncs: newSyncer(),
	}
	w.record("lambent tree 1")
	err = w.makeDir(path)
	if err == nil {
		err = w.directory(t.root, path)
	}
	if syncErr := w.syncs.wait(); err == nil && syncErr != nil {
		err = fileError(t.op, s.dir, syncErr)
	}
	return hex.EncodeToString(w.manifest.Sum(nil)), w.max - w.left, err
}

// record adds to the manifest. Names and targets have no NUL in them.
func (w *writer) record(fields ...string) {
	for _, f := range fields {
		io.WriteString(w.manifest, f)
		w.manifest.Write([]byte{0})
	}
}

func (w *writer) makeDir(path string) error {
	err := os.Mkdir(path, 0o755)
	if err == nil {
		err = os.Chmod(path, 0o755) // whatever the umask
	}
	if err != nil {
		return fileError(w.op, w.dir, err)
	}
	return nil
}

// directory writes what is below n into the directory at path.
func (w *writer) directory(n *node, path string) error {
	dir, err := os.OpenRoot(path)
	if err != nil {
		return fileError(w.op, w.dir, err)
	}
	defer dir.Close()
	err = w.below(n, dir)
	if _, ours := errors.AsType[*lambent.Error](err); err != nil && !ours {
		err = fileError(w.op, w.dir, err)
	}
	return err
}

// below works through handles of directories, one name at a time: even a name
// or a link that got past the rules could not lead a write elsewhere.
func (w *writer) below(n *node, dir *os.Root) error {
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		var err error
		switch c.kind {
		case fs.ModeDir:
			err = w.subdirectory(c, dir, name)
		case fs.ModeSymlink:
			w.record("l", c.name, c.target)
			err = dir.Symlink(c.target, name)
		default:
			err = w.file(c, dir, name)
		}
		if errors.Is(err, fs.ErrExist) { // names are unique, but not every disk tells cases apart
			err = refuse(w.op, c.name, "differs from another only in letters that the server's disk does not tell apart")
		}
		if err != nil {
			return err
		}
	}
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	w.syncs.add(d)
	return nil
}

func (w *writer) subdirectory(n *node, parent *os.Root, name string) error {
	w.record("d", n.name)
	if err := parent.Mkdir(name, 0o755); err != nil {
		return err
	}
	if err := parent.Chmod(name, 0o755); err != nil { // whatever the umask
		return err
	}
	dir, err := parent.OpenRoot(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := w.below(n, dir); err != nil {
		return err
	}
	return parent.Chtimes(name, fixedTime, fixedTime)
}

func (w *writer) file(n *node, dir *os.Root, name string) (err error) {
	in, err := n.open()
	if err != nil {
		return refuse(w.op, n.name, "is damaged: %w", err)
	}
	defer in.Close()
	out, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			out.Close()
		}
	}()
	sum := sha256.New()
	if err := w.copy(out, sum, in, n.name); err != nil {
		return err
	}
	record, perm := "f", fs.FileMode(0o444)
	if n.exec {
		record, perm = "x", 0o555
	}
	w.record(record, n.name, string(sum.Sum(w.buf[:0])))
	if err := out.Chmod(perm); err != nil {
		return err
	}
	if err := dir.Chtimes(name, fixedTime, fixedTime); err != nil {
		return err
	}
	w.syncs.add(out)
	return nil
}

// copy counts the bytes that really come, not those that the archive announced,
// and tells the archive's faults from the disk's.
func (w *writer) copy(out *os.File, sum hash.Hash, in io.Reader, name string) error {
	for {
		if w.ctx.Err() != nil {
			return canceled(w.ctx, w.op)
		}
		n, err := in.Read(w.buf)
		if w.left -= int64(n); w.left < 0 {
			return tooBig(w.op, w.max)
		}
		sum.Write(w.buf[:n])
		if _, err := out.Write(w.buf[:n]); err != nil {
			return err
		}
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, zip.ErrChecksum):
			return refuse(w.op, name, "is damaged: its checksum does not match")
		case err != nil:
			return refuse(w.op, name, "is damaged: %w", err)
		}
	}
}

// A syncer puts files on the disk, several at a time: file systems join syncs
// that wait together into one commit. (For 1,000 files of 6 KB on ext4: one after
// another +250 ms, sixteen at a time +75, syncfs(2) +20; but that one waits for
// everything that anyone has written, function logs and /tmp included.)
type syncer struct {
	files chan *os.File
	wg    sync.WaitGroup
	mu    sync.Mutex
	err   error // the first; guarded by mu
}

func newSyncer() *syncer {
	s := &syncer{files: make(chan *os.File)}
	for range 16 {
		s.wg.Go(func() {
			for f := range s.files {
				if err := errors.Join(f.Sync(), f.Close()); err != nil {
					s.mu.Lock()
					s.err = cmp.Or(s.err, err)
					s.mu.Unlock()
				}
			}
		})
	}
	return s
}

// add hands a file over; the syncer closes it.
func (s *syncer) add(f *os.File) { s.files <- f }

// wait returns once every file is on the disk.
func (s *syncer) wait() error {
	close(s.files)
	s.wg.Wait()
	return s.err
}
