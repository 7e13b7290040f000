package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"lambent"
	"lambent/internal/atomicfile"
)

// PutZip stores an archive and the tree in it. Putting the same again costs no
// space and makes the items young again for [Store.Remove]. When it returns
// without error both are on the disk; with an error, nothing is kept.
//
// Refusals are Invalid or TooLarge and name the entry and the rule; a full disk
// is NoSpace. An error of r that is a *lambent.Error is returned as it is.
func (s *Store) PutZip(ctx context.Context, r io.Reader) (Tree, error) {
	return s.put(ctx, "bundle.PutZip", s.limits.MaxZip, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// PutDir stores a copy of everything below a directory, as the archive that
// [Pack] would make of it, but leaving out nothing. The archive may be as large
// as it comes out: only what is sent in as an archive has that limit.
func (s *Store) PutDir(ctx context.Context, dir string) (Tree, error) { return s.PutDirs(ctx, dir) }

// PutDirs is PutDir for what several directories have together: of what has the same
// name, the first's counts, unless all are directories.
func (s *Store) PutDirs(ctx context.Context, dirs ...string) (Tree, error) {
	const op = "bundle.PutDir"
	return s.put(ctx, op, math.MaxInt64-1, func(w io.Writer) error {
		t, size, err := readDirs(ctx, op, dirs, s.limits.MaxFiles, nil)
		if err != nil {
			return err
		}
		if size > s.limits.MaxTree {
			return tooBig(op, s.limits.MaxTree)
		}
		return writeZip(ctx, op, t, w)
	})
}

// put stores the archive that send writes.
func (s *Store) put(ctx context.Context, op string, maxZip int64, send func(io.Writer) error) (_ Tree, err error) {
	work, err := os.MkdirTemp(s.path(tmpDir), "")
	if err != nil {
		return Tree{}, fileError(op, s.dir, err)
	}
	defer os.RemoveAll(work) // what is left of it, Open removes

	zipPath, treePath := filepath.Join(work, "zip"), filepath.Join(work, "tree")
	f, err := os.OpenFile(zipPath, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Tree{}, fileError(op, s.dir, err)
	}
	defer f.Close()
	spool := &spool{ctx: ctx, op: op, dir: s.dir, file: f, hash: sha256.New(), max: maxZip}
	if err := send(spool); err != nil {
		if spool.err != nil {
			return Tree{}, spool.err
		}
		return Tree{}, sendError(ctx, op, err)
	}
	// The archive is written out while the tree is made.
	synced := make(chan error, 1)
	go func() { synced <- f.Sync() }()
	defer func() {
		if synced != nil {
			<-synced // f is closed only after it
		}
	}()

	t, err := readZip(op, f, spool.size, s.limits)
	if err != nil {
		return Tree{}, err
	}
	out := Tree{ZipDigest: hex.EncodeToString(spool.hash.Sum(nil)), ZipSize: spool.size, Files: t.files}
	out.Digest, out.Size, err = s.write(ctx, t, treePath)
	if err != nil {
		return Tree{}, err
	}
	err, synced = <-synced, nil
	if err != nil {
		return Tree{}, fileError(op, s.dir, err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	// The archive first: a crash between the two leaves an archive that nothing
	// refers to, which the collector takes.
	if err := s.land(zipPath, zipsDir, out.ZipDigest); err != nil {
		return Tree{}, fileError(op, s.dir, err)
	}
	if err := s.land(treePath, treesDir, out.Digest); err != nil {
		return Tree{}, fileError(op, s.dir, err)
	}
	return out, nil
}

// land moves what is at path to its place, or, where the same is there already,
// makes that young again. The caller holds mu.
func (s *Store) land(path, kind, digest string) error {
	place, now := s.path(kind, digest), time.Now()
	err := os.Chtimes(place, now, now)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Chtimes(path, now, now); err != nil {
		return err
	}
	if err := os.Rename(path, place); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.path(kind))
}

// sendError phrases the failure of whoever sends the archive.
func sendError(ctx context.Context, op string, err error) error {
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		return e
	}
	if ctx.Err() != nil {
		return canceled(ctx, op)
	}
	return lambent.Errorf(lambent.Invalid, op, "the archive broke off while it was sent: %w", err)
}

func canceled(ctx context.Context, op string) error {
	return lambent.Errorf(lambent.Canceled, op, "given up before the code was stored: %w", context.Cause(ctx))
}

// A spool takes an archive in, up to a limit.
type spool struct {
	ctx       context.Context
	op, dir   string
	file      *os.File
	hash      hash.Hash
	size, max int64
	err       error // why it takes no more
}

func (s *spool) Write(p []byte) (int, error) {
	switch {
	case s.ctx.Err() != nil:
		s.err = canceled(s.ctx, s.op)
		return 0, s.err
	case s.size+int64(len(p)) > s.max:
		s.err = lambent.Errorf(lambent.TooLarge, s.op, "the archive is over the limit of %d MB", s.max>>20).
			WithHint("leave out what the function does not need, or have the runtime bring it: lambent runtime add RUNTIME --packages ...")
		return 0, s.err
	}
	s.hash.Write(p)
	n, err := s.file.Write(p)
	s.size += int64(n)
	if err != nil {
		s.err = fileError(s.op, s.dir, err)
	}
	return n, s.err
}
