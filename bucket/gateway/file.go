package gateway

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"golang.org/x/sys/unix"

	"lambent"
	"lambent/source/object"
)

// checkKey refuses a key whose object cannot have a file of its own: those that are no
// clean path would have another one's, and some are versitygw's. S3 knows no such limit.
func checkKey(key *string) error {
	k := strings.TrimSuffix(text(key), "/")
	switch {
	case len(k) > 1024:
		return s3err.GetKeyTooLongErr(int64(len(k)), 1024)
	case k != path.Clean(k), strings.HasPrefix(k, "/"), k == ".", k == "..", strings.HasPrefix(k, "../"), isOurs(k), strings.ContainsRune(k, 0), !utf8.ValidString(k):
		return s3err.APIError{
			Code: "InvalidArgument", HTTPStatusCode: http.StatusBadRequest,
			Description: "This server keeps objects as files: a key is UTF-8 without NUL, does not begin with a slash, and has no part between slashes that is empty, . or .., or that is " + posix.MetaTmpDir,
		}
	}
	return nil
}

// isOurs reports whether a key would be of versitygw's own files.
func isOurs(key string) bool {
	first, _, _ := strings.Cut(path.Clean("/" + key)[1:], "/")
	return first == posix.MetaTmpDir
}

// isCopyOfOurs is that of what is to be copied, by its name in the request.
func isCopyOfOurs(source *string) bool {
	_, key, _, err := backend.ParseCopySource(text(source))
	return err == nil && isOurs(key)
}

// whole has a file on disk before it gets its name, so that what it replaces is not lost for
// it, and refuses one that is not as long as was said: the connection broke.
func whole(length *int64) func(*os.File) error {
	return func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if length != nil && info.Size() != *length {
			return s3err.GetAPIError(s3err.ErrIncompleteBody)
		}
		return f.Sync()
	}
}

// syncAt has on disk what is, or is no more, at a key.
func syncAt(bucket, key *string) error {
	for p := filepath.Join(*bucket, *key); ; p = filepath.Dir(p) {
		err := syncFile(p)
		if err == nil && p != "." {
			err = syncFile(filepath.Dir(p))
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) || p == "." {
			return err
		}
	}
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = f.Sync()
	return errors.Join(err, f.Close())
}

// changedAt is when the file of an object got its name, or was changed last.
func changedAt(path string) (time.Time, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return time.Time{}, err
	}
	return time.Unix(st.Ctim.Unix()), nil
}

// full is an error as S3 has it if it is for want of space.
func full(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return s3err.GetAPIError(s3err.ErrNoSpaceLeftOnDevice)
	case errors.Is(err, syscall.EDQUOT):
		return s3err.GetAPIError(s3err.ErrQuotaExceeded)
	}
	return err
}

// settle finds out what became of all that was under way when the last gateway ended.
func (b *watched) settle(ctx context.Context) error {
	pending, err := b.link.Pending()
	if err != nil {
		return err
	}
	for i := range pending {
		if err := b.settleOne(ctx, &pending[i]); err != nil {
			return err
		}
	}
	return nil
}

// settleOne tells the server of an intent what of it has happened, by what there is.
func (b *watched) settleOne(ctx context.Context, i *object.Intent) error {
	var happened []object.Change
	for _, c := range i.Changes {
		if strings.HasPrefix(c.Event, "s3:ObjectRemoved:") {
			if now := c; b.head(ctx, &now, c.VersionID) != nil { // it was there when that began
				c.Time = i.Began
				happened = append(happened, c)
			}
			continue
		}
		changed, err := changedAt(filepath.Join(c.Bucket, c.Key))
		if err != nil || changed.Before(i.Began) || b.head(ctx, &c, "") != nil {
			continue
		}
		c.Time = changed
		happened = append(happened, c)
	}
	if len(happened) == 0 {
		return b.link.Cancel(i.ID)
	}
	err := b.link.Done(i.ID, happened)
	if lambent.Is(err, lambent.NoSpace) || lambent.Is(err, lambent.Throttled) {
		return nil // the server tries again, and takes nothing else that is watched meanwhile
	}
	return err
}
