// Package atomicfile replaces a file so that a reader, or a machine that lost
// its power, sees the old content or the new one, whole.
//
// It guards against crashes, not against concurrent writers: of two, the last
// rename wins. It does not create directories.
package atomicfile

import (
	"os"
	"path/filepath"
)

// Write puts data into the file at path with exactly those permissions, by way
// of a temporary file in the same directory. When it returns nil, content and
// name are on disk. On error the old file is as it was.
func Write(path string, data []byte, perm os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // closed already on some paths; the first error is the one that counts
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(perm); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in dir survive a power cut. Its failure comes after a
// rename, so that the caller must treat the content as unknown.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
