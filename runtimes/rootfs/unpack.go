package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"lambent"
)

const unpackOp = "rootfs.unpack"

// Marks of OCI layers: a name that is gone, and a directory whose lower content is.
const (
	whiteout       = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
	whiteoutOther  = ".wh..wh." // what else a union file system noted for itself
)

// maxHops is how many links one path may lead through, as in the kernel.
const maxHops = 40

// An unpacker writes archives, the lowest layer first, into one directory. It
// follows links the way a process would that has the directory as its root: so
// no entry leads outside, and what an image means by its links is what it gets.
// Below that, os.Root would not let it out either.
type unpacker struct {
	ctx  context.Context
	root *os.Root

	layered bool   // whiteouts mean something
	strip   string // of names, which all have it; others are left out

	left, max  int64 // bytes that may still come
	entries    int   // that may still come
	maxEntries int

	written map[string]bool   // by the layer that is being read, and their directories
	parents map[string]string // directories by how entries name them
	buf     []byte
}

func (s *Store) newUnpacker(ctx context.Context, root *os.Root) *unpacker {
	return &unpacker{
		ctx: ctx, root: root, left: s.o.MaxBytes, max: s.o.MaxBytes, entries: s.o.MaxFiles, maxEntries: s.o.MaxFiles,
		parents: map[string]string{}, buf: make([]byte, 128<<10),
	}
}

// unpack writes one archive or layer, and reads it to its end. Errors of the disk
// come back as they are.
func (u *unpacker) unpack(r io.Reader) error {
	u.written = map[string]bool{}
	// What is no file's content is bounded too: headers, padding, what follows the end.
	stream := &capped{r: r, left: u.max + u.max/8 + 64<<20, err: u.tooBig()}
	for t := tar.NewReader(stream); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return damaged(err)
		}
		if u.ctx.Err() != nil {
			return canceled(u.ctx)
		}
		if u.entries--; u.entries < 0 {
			return u.tooMany()
		}
		if err := u.entry(h, t); err != nil {
			return err
		}
	}
	// Whoever compares digests needs all of it.
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{stream}, u.buf); err != nil {
		return damaged(err)
	}
	return nil
}

// entry writes one entry.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if u.strip != "" {
		below, ok := strings.CutPrefix(name, u.strip+"/")
		if !ok {
			return nil
		}
		name = below
	}
	if name == "." {
		return nil
	}
	dir, base := path.Split(name)
	if u.layered && strings.HasPrefix(base, whiteout) {
		return u.whiteout(h.Name, dir, base)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo, tar.TypeXGlobalHeader:
		return nil // sandboxes have devices of their own
	default:
		return refuse(h.Name, "is of kind %q: only files, directories and links are unpacked", h.Typeflag)
	}
	parent, err := u.parent(h.Name, dir)
	if err != nil {
		return err
	}
	at := path.Join(parent, base)
	for p := at; p != "."; p = path.Dir(p) {
		u.written[p] = true
	}
	if h.Typeflag == tar.TypeLink {
		return u.link(h, at)
	}
	if err := u.makeRoom(at, h.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	// Nobody but the server's user may write, which must be able to remove it again,
	// and no bit that gives a program another user survives.
	perm := fs.FileMode(h.Mode) & 0o755
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.root.Mkdir(at, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return u.failed(h.Name, err)
		}
		return u.failed(h.Name, u.root.Chmod(at, perm|0o700))
	case tar.TypeSymlink:
		return u.failed(h.Name, u.root.Symlink(h.Linkname, at))
	}
	return u.file(h, at, perm|0o400, content)
}

// file writes a regular file.
func (u *unpacker) file(h *tar.Header, at string, perm fs.FileMode, content io.Reader) error {
	f, err := u.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return u.failed(h.Name, err)
	}
	err = u.copy(f, content)
	if err == nil {
		err = f.Chmod(perm)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return u.failed(h.Name, err)
	}
	// Python believes its compiled files by the time of the source.
	return u.failed(h.Name, u.root.Chtimes(at, mtime(h), mtime(h)))
}

// mtime is an entry's time in whole seconds, or the epoch where it says nonsense.
func mtime(h *tar.Header) time.Time {
	s := h.ModTime.Unix()
	if s < 0 || s > 1<<33 {
		s = 0
	}
	return time.Unix(s, 0)
}

// copy counts what really comes, not what the header announced.
func (u *unpacker) copy(out *os.File, in io.Reader) error {
	for {
		if u.ctx.Err() != nil {
			return canceled(u.ctx)
		}
		n, err := in.Read(u.buf)
		if u.left -= int64(n); u.left < 0 {
			return u.tooBig()
		}
		if _, err := out.Write(u.buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
	}
}

// link makes another name of a file that is there.
func (u *unpacker) link(h *tar.Header, at string) error {
	target, err := clean(h.Linkname)
	if err != nil {
		return err
	}
	if u.strip != "" {
		target, _ = strings.CutPrefix(target, u.strip+"/")
	}
	dir, base := path.Split(target)
	parent, err := walk(u.root, dir, nil)
	var fi fs.FileInfo
	from := path.Join(parent, base)
	if err == nil {
		fi, err = u.root.Lstat(from)
	}
	switch {
	case err != nil:
		return refuse(h.Name, "is a link to %.200q, which is not there", h.Linkname)
	case from == at:
		return nil
	case fi.IsDir():
		return refuse(h.Name, "is a hard link to a directory")
	}
	if err := u.makeRoom(at, false); err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		text, err := u.root.Readlink(from)
		if err == nil {
			err = u.root.Symlink(text, at)
		}
		return u.failed(h.Name, err)
	}
	return u.failed(h.Name, u.root.Link(from, at))
}

// makeRoom removes what is at a path, unless it is a directory and is to be one.
func (u *unpacker) makeRoom(at string, dir bool) error {
	fi, err := u.root.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) || err == nil && dir && fi.IsDir() {
		return nil
	}
	if err == nil {
		clear(u.parents) // some may have led through it
		err = u.root.RemoveAll(at)
	}
	return u.failed(at, err)
}

// whiteout removes what lower layers have at a path, or in a directory.
func (u *unpacker) whiteout(name, dir, base string) error {
	if base != whiteoutOpaque && strings.HasPrefix(base, whiteoutOther) {
		return nil
	}
	parent, err := walk(u.root, dir, nil)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return u.failed(name, err)
	}
	clear(u.parents)
	if base == whiteoutOpaque {
		return u.clearLower(name, parent)
	}
	gone := strings.TrimPrefix(base, whiteout)
	if gone == "" || gone == "." || gone == ".." {
		return refuse(name, "removes nothing that has a name")
	}
	if at := path.Join(parent, gone); !u.written[at] {
		return u.failed(name, u.root.RemoveAll(at))
	}
	return nil
}

// clearLower removes what is below a directory and not of this layer.
func (u *unpacker) clearLower(name, dir string) error {
	d, err := u.root.Open(dir)
	if err != nil {
		return u.failed(name, err)
	}
	entries, err := d.ReadDir(-1)
	d.Close()
	if err != nil {
		return u.failed(name, err)
	}
	for _, e := range entries {
		at := path.Join(dir, e.Name())
		switch {
		case !u.written[at]:
			err = u.failed(name, u.root.RemoveAll(at))
		case e.IsDir():
			err = u.clearLower(name, at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parent returns the directory that an entry is in, and makes it where it is
// missing.
func (u *unpacker) parent(name, dir string) (string, error) {
	if at, ok := u.parents[dir]; ok {
		return at, nil
	}
	at, err := walk(u.root, dir, func(at string) error {
		if err := u.root.Mkdir(at, 0o755); err != nil {
			return err
		}
		return u.root.Chmod(at, 0o755) // whatever the umask
	})
	if err != nil {
		return "", u.failed(name, err)
	}
	u.parents[dir] = at
	return at, nil
}

// walk returns the path without links of what name leads to, for a process that
// has the directory as its root. missing, unless nil, makes a directory that is
// not there.
func walk(root *os.Root, name string, missing func(at string) error) (string, error) {
	at, hops := ".", 0
	for left := strings.Split(name, "/"); len(left) > 0; {
		e := left[0]
		left = left[1:]
		if e == "" || e == "." {
			continue
		}
		if e == ".." {
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, e)
		fi, err := root.Lstat(next)
		switch {
		case missing != nil && errors.Is(err, fs.ErrNotExist):
			err = missing(next)
		case err == nil && fi.Mode()&fs.ModeSymlink != 0:
			if hops++; hops > maxHops {
				return "", &fs.PathError{Op: "walk", Path: name, Err: syscall.ELOOP}
			}
			var target string
			if target, err = root.Readlink(next); err == nil {
				if strings.HasPrefix(target, "/") {
					at = "."
				}
				left = append(strings.Split(target, "/"), left...)
				continue
			}
		}
		if err != nil {
			return "", err
		}
		at = next
	}
	return at, nil
}

// clean returns an entry's name relative to the root: "." for that itself.
func clean(name string) (string, error) {
	for e := range strings.SplitSeq(name, "/") {
		if e == ".." {
			return "", refuse(name, "has '..' in its path")
		}
	}
	if strings.ContainsRune(name, 0) || len(name) > 4096 {
		return "", refuse(name, "has a NUL byte in its path, or over 4096 bytes")
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil
}

// failed tells what an entry cannot be from what the disk cannot do.
func (u *unpacker) failed(name string, err error) error {
	for _, ofEntry := range []error{syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.EINVAL, syscall.EILSEQ, fs.ErrExist, fs.ErrNotExist} {
		if errors.Is(err, ofEntry) {
			if e, ok := errors.AsType[*fs.PathError](err); ok {
				err = e.Err
			}
			return refuse(name, "cannot be written: %w", err)
		}
	}
	return err
}

func isMissing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func refuse(name, format string, args ...any) error {
	return lambent.Errorf(lambent.Invalid, unpackOp, "entry %.200q "+format, append([]any{name}, args...)...)
}

func damaged(err error) error {
	if _, ours := errors.AsType[*lambent.Error](err); ours {
		return err
	}
	return lambent.Errorf(lambent.Invalid, unpackOp, "the archive is damaged or cut short: %w", err)
}

func canceled(ctx context.Context) error {
	return lambent.Errorf(lambent.Canceled, "rootfs.Add", "given up: %w", context.Cause(ctx))
}

func (u *unpacker) tooBig() error {
	return lambent.Errorf(lambent.TooLarge, unpackOp, "unpacked, it is over the limit of %d MB", u.max>>20).WithHint("lambent serve --help   (--max-root)")
}

func (u *unpacker) tooMany() error {
	return lambent.Errorf(lambent.TooLarge, unpackOp, "there are more files in it than the limit of %d", u.maxEntries)
}

// A capped reader fails once more came than it may give.
type capped struct {
	r    io.Reader
	left int64
	err  error
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, c.err
	}
	return n, err
}
