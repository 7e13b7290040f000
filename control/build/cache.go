package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A cache keeps what recipes have answered with, as files by what went into them.
// Several processes must not have one open; its methods may be called concurrently.
type cache struct{ dir string }

const (
	// cacheFor is how long an answer is kept that nobody asks for, and cacheMB how much
	// there is of all.
	cacheFor = 30 * 24 * time.Hour
	cacheMB  = 4096

	// looseFor is how long one is used whose versions are not all said: a registry has
	// others by then.
	looseFor = 24 * time.Hour
)

// cacheKey names what goes into a build, or into the first stage of one: whatever the
// recipe sees, what runs it, where it installs from, and whose it is. Projects share
// nothing, so that none can leave another something.
func (b *Builder) cacheKey(r *Request, rec *recipe, src string, p plan) (string, error) {
	h := sha256.New()
	field := func(s string) {
		io.WriteString(h, s)
		h.Write([]byte{0})
	}
	for _, s := range []string{rec.script, r.Name.Project, r.Runtime.Name, r.Runtime.Root, strings.Join(r.Runtime.Boot, " "), strings.Join(b.options.Env, "\n"), runtime.GOARCH} {
		field(s)
	}
	if p.sees == nil {
		field(r.Source)
	}
	for _, name := range p.sees {
		text, err := os.ReadFile(filepath.Join(src, filepath.FromSlash(path.Clean(name))))
		if err != nil {
			return "", err
		}
		field(name)
		sum := sha256.Sum256(text)
		h.Write(sum[:])
	}
	if p.fetch {
		field("first stage")
	}
	for _, name := range p.empty {
		field(name)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// open returns what is kept under a key, or nil: also where it is too old for what
// does not say its versions.
func (c *cache) open(key string, locked bool) *os.File {
	file := filepath.Join(c.dir, key)
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil || !locked && time.Since(info.ModTime()) > looseFor {
		f.Close()
		return nil
	}
	if locked { // it is wanted; of the others the time is their age
		now := time.Now()
		_ = os.Chtimes(file, now, now)
	}
	return f
}

// keep keeps an answer, and makes room for it.
func (c *cache) keep(key string, answer *os.File) error {
	if err := answer.Sync(); err != nil {
		return err
	}
	if err := os.Rename(answer.Name(), filepath.Join(c.dir, key)); err != nil {
		return err
	}
	return c.trim(cacheMB<<20, time.Now().Add(-cacheFor))
}

// trim removes what is older than the time, and then the oldest over the size.
func (c *cache) trim(maxBytes int64, oldest time.Time) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	var errs []error
	for _, f := range files {
		if maxBytes -= f.Size(); maxBytes < 0 || f.ModTime().Before(oldest) {
			if err := os.Remove(filepath.Join(c.dir, f.Name())); !errors.Is(err, fs.ErrNotExist) { // another build may be at it
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
