package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"lambent"
	"lambent/internal/atomicfile"
)

// Format is the version of what a data directory holds. It rises when an older
// program could not read what a newer one writes; each release reads its own
// and the one before.
const Format = 1

// mode is how the engine runs. It is written into the directory because an
// engine that is started in cluster mode on the files of a single one silently
// empties them.
const mode = "single"

// A dir is a data directory that this process holds.
type dir struct {
	path string
	lock *os.File // flocked; the kernel lets go when the process ends, however it ends
}

// openDir makes, checks, locks and marks the data directory, in an order in
// which no refusal changes anything.
func openDir(path string) (*dir, error) {
	const op = "store.Open"
	if path == "" {
		return nil, lambent.Errorf(lambent.Invalid, op, "data directory is empty: name one").WithHint("lambent serve --data DIR")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, explain(op, path, err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, explain(op, path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, explain(op, path, err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		return nil, lambent.Errorf(lambent.Forbidden, op, "data directory %s belongs to uid %d, and this process runs as uid %d", path, owner.Uid, os.Geteuid()).
			WithHint("chown -R %d %s", os.Geteuid(), path)
	}
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	d := &dir{path: path, lock: lock}
	if err := d.checkFormat(); err != nil {
		_ = d.unlock()
		return nil, err
	}
	if err := d.announce(""); err != nil {
		_ = d.unlock()
		return nil, explain(op, path, err)
	}
	return d, nil
}

// lockFile takes the lock, or says who has it.
func lockFile(path string) (*os.File, error) {
	const op = "store.Open"
	f, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explain(op, path, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	defer f.Close()
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, explain(op, path, fmt.Errorf("locking %s: %w", f.Name(), err))
	}
	holder, _ := io.ReadAll(io.LimitReader(f, 1024)) // without it the message is only less precise
	pid, address, _ := strings.Cut(strings.TrimSpace(string(holder)), "\n")
	switch {
	case pid == "":
		return nil, lambent.Errorf(lambent.Unavailable, op, "data directory %s is in use by another lambent server", path).
			WithHint("lambent serve --data DIR")
	case address != "":
		pid += " on " + address
	}
	return nil, lambent.Errorf(lambent.Unavailable, op, "data directory %s is in use by the lambent server with pid %s", path, pid).
		WithHint("kill %s", strings.Fields(pid)[0])
}

// announce writes who holds the lock: a line with the pid, one with the address.
// A reader may see it half-written; it only words a message.
func (d *dir) announce(address string) error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err := d.lock.WriteAt(fmt.Appendf(nil, "%d\n%s\n", os.Getpid(), address), 0)
	return err
}

// unlock lets go of the directory. The file stays: removing it would let two
// processes lock two files of one name.
func (d *dir) unlock() error {
	_ = d.lock.Truncate(0)
	return d.lock.Close()
}

// checkFormat reads the marker, or writes it into a directory that is new.
func (d *dir) checkFormat() error {
	const op = "store.Open"
	path := filepath.Join(d.path, "format")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat(filepath.Join(d.path, "state")); err == nil {
			return lambent.Errorf(lambent.Invalid, op, "data directory %s has state but no file %q that says of which format: it is damaged, or not lambent's", d.path, "format").
				WithHint("lambent serve --data DIR")
		}
		if err := atomicfile.Write(path, fmt.Appendf(nil, "format %d\nmode %s\n", Format, mode), 0o600); err != nil {
			return explain(op, d.path, err)
		}
		return nil
	case err != nil:
		return explain(op, d.path, err)
	}
	var format int
	var made string
	if n, err := fmt.Sscanf(string(b), "format %d\nmode %s\n", &format, &made); n != 2 {
		return lambent.Errorf(lambent.Invalid, op, "%s reads %.60q, not a format and a mode: it is damaged, or not lambent's: %w", path, b, err).
			WithHint("lambent serve --data DIR")
	}
	switch {
	case format > Format:
		return lambent.Errorf(lambent.Unsupported, op, "data directory %s has format %d, made by a newer lambent; this one reads up to format %d", d.path, format, Format).
			WithHint("lambent version")
	case format < Format-1 || format < 1:
		return lambent.Errorf(lambent.Unsupported, op, "data directory %s has format %d; this lambent reads from format %d", d.path, format, max(1, Format-1)).
			WithHint("lambent version")
	case made != mode:
		return lambent.Errorf(lambent.Unsupported, op, "data directory %s was made in mode %q; this server runs in mode %q, in which the engine would empty it", d.path, made, mode).
			WithHint("lambent serve --data DIR")
	}
	return nil
}

// folder makes a folder in the directory, and finds out whether it takes files:
// the engine's own words on that would have lost the cause.
func (d *dir) folder(name string) (string, error) {
	path := filepath.Join(d.path, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", err
	}
	probe := filepath.Join(path, ".probe")
	if err := atomicfile.Write(probe, make([]byte, 4096), 0o600); err != nil {
		return "", err
	}
	return path, os.Remove(probe)
}

// minFree is how many bytes of disk a write must leave. Short of it the engine
// would run into the end of the disk in the middle of a record, which it takes
// as a reason to shut the stream down.
const minFree = 16 << 20

// space returns how many bytes of the disk are free, for us, and how many it has.
func (d *dir) space() (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.path, &st); err != nil {
		return 0, 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), uint64(st.Blocks) * uint64(st.Bsize), nil
}

// spare refuses a write of so many bytes that can be done without, if less than a twentieth
// of the disk is free behind it.
func (d *dir) spare(op string, bytes int64) error {
	free, total, err := d.space()
	if err != nil {
		return explain(op, d.path, err)
	}
	if least := max(total/20, minFree) + uint64(bytes); free < least {
		return lambent.Errorf(lambent.NoSpace, op, "%d MB are free on the disk of data directory %s, under the %d MB with which more is written than has to be", free>>20, d.path, least>>20).
			WithHint("df -h %s", d.path)
	}
	return nil
}

// checkSpace refuses a write that the disk may not hold.
func (d *dir) checkSpace(op string) error {
	free, _, err := d.space()
	if err != nil {
		return explain(op, d.path, err)
	}
	if free < minFree {
		return lambent.Errorf(lambent.NoSpace, op, "%d MB are free on the disk of data directory %s, under the %d MB that must stay free", free>>20, d.path, minFree>>20).
			WithHint("df -h %s", d.path)
	}
	return nil
}
