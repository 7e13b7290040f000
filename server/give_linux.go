package server

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"lambent"
)

// giveData makes the data directory the server's user's, with all that is in it. The
// directory itself is given last: one that is the user's was given whole, and what it
// holds is that user's doing.
func (c *Config) giveData(uid, gid int) error {
	if err := prepareData(c.Data); err != nil {
		return err
	}
	fail := func(err error) error {
		return lambent.Errorf(lambent.Internal, "serve", "the data directory cannot be given to user %d: %w", uid, err)
	}
	root, err := os.OpenRoot(c.Data)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	var top unix.Stat_t
	if err := unix.Stat(c.Data, &top); err != nil {
		return fail(err)
	}
	if owner := int(top.Uid); owner != 0 && owner != uid { // another's is a mistake
		return lambent.Errorf(lambent.Forbidden, "serve", "data directory %s belongs to uid %d, and this process runs as uid 0", c.Data, owner).
			WithHint("chown -R 0 %s", c.Data)
	}
	for _, dir := range []string{"code", "roots"} { // the jail looks for them before the server makes them
		if err := root.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
			continue
		} else if err != nil {
			return fail(err)
		}
		if err := give(root, dir, uid, gid); err != nil {
			return fail(err)
		}
	}
	if int(top.Uid) == uid && int(top.Gid) == gid {
		return nil
	}
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return give(root, path, uid, gid)
	})
	if err == nil {
		err = give(root, ".", uid, gid)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// give changes the owner of what is at a path below root. The user whose the directory
// above is may put something else there meanwhile: what is looked at is what is changed,
// a symbolic link is itself, and a file that has another name stays whose it is, as that
// may be anywhere.
func give(root *os.Root, path string, uid, gid int) error {
	f, err := root.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return err
	}
	if int(s.Uid) == uid && int(s.Gid) == gid || s.Mode&unix.S_IFMT != unix.S_IFDIR && s.Nlink > 1 {
		return nil
	}
	return unix.Fchownat(int(f.Fd()), "", uid, gid, unix.AT_EMPTY_PATH)
}
