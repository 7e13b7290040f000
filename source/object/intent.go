package object

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"lambent"
	"lambent/internal/atomicfile"
)

// An Intent is what began and is not done with.
type Intent struct {
	ID      string
	Began   time.Time // by the clock of the file system, which the objects' times are of too
	Changes []Change
}

// intents are files, one for each, named by its id.
type intents struct{ dir string }

func (in intents) path(project string, elem ...string) string {
	return filepath.Join(append([]string{in.dir, project, "intents"}, elem...)...)
}

// write has an intent on disk when it returns nil, with the time of that.
func (in intents) write(project, id string, changes []Change) (began time.Time, err error) {
	b, err := json.Marshal(changes)
	if err != nil {
		return began, err
	}
	path := in.path(project, id)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(in.path(project), 0o700); err != nil {
			return began, in.explain(err)
		}
		if err := atomicfile.SyncDir(filepath.Dir(in.path(project))); err != nil {
			return began, in.explain(err)
		}
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return began, in.explain(err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil {
			began = info.ModTime()
		}
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = atomicfile.SyncDir(in.path(project))
	}
	if err != nil {
		_ = os.Remove(path) // it has not begun; one that stays is found not to have happened
	}
	return began, in.explain(err)
}

// remove has no intent there; that it is not on disk yet that there is none does no harm.
func (in intents) remove(project, id string) error {
	if err := os.Remove(in.path(project, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return in.explain(err)
	}
	return nil
}

// list returns all intents of a project, but those that were not written to the end.
func (in intents) list(project string) (all []Intent, err error) {
	entries, err := os.ReadDir(in.path(project))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, in.explain(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, in.explain(err)
		}
		b, err := os.ReadFile(in.path(project, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, in.explain(err)
		}
		i := Intent{ID: e.Name(), Began: info.ModTime()}
		if json.Unmarshal(b, &i.Changes) != nil { // nobody was told that it began
			if err := in.remove(project, i.ID); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, i)
	}
	return all, nil
}

// explain phrases a failure of the file system.
func (in intents) explain(err error) error {
	const op = "object"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return lambent.Errorf(lambent.NoSpace, op, "no space is left on the disk of the buckets %s: %w", in.dir, err).WithHint("df -h %s", in.dir)
	}
	return lambent.Errorf(lambent.Internal, op, "the event of a change in a bucket cannot be written down: %w", err)
}
