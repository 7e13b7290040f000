package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lambent"
)

func (b *Builder) logs() string { return filepath.Join(b.options.CacheDir, "logs") }

// logFile is where the output of a function's last build is.
func (b *Builder) logFile(n lambent.Name) string {
	return filepath.Join(b.logs(), n.Project+"."+n.Function)
}

// logged has what goes to progress kept, too, in place of what the function's last
// build said. A log that cannot be written is none, and fails no build.
func (b *Builder) logged(r *Request, progress io.Writer) (both io.Writer, end func(error)) {
	begun := time.Now()
	tell := func(outcome error) {
		b.log.Info("built", "function", r.Name.String(), "kind", r.Kind, "took", time.Since(begun).Round(time.Millisecond), "outcome", ending(outcome))
	}
	f, err := os.CreateTemp(b.logs(), ".*")
	if err != nil {
		return progress, tell
	}
	say(f, "%s: %s build for %s", time.Now().UTC().Format(time.RFC3339), r.Kind, r.Runtime.Name)
	return &tee{progress, f}, func(outcome error) {
		tell(outcome)
		say(f, "%s: %s", time.Now().UTC().Format(time.RFC3339), ending(outcome))
		if errors.Join(f.Close(), os.Rename(f.Name(), b.logFile(r.Name))) != nil {
			_ = os.Remove(f.Name())
		}
	}
}

func ending(err error) string {
	if err == nil {
		return "done"
	}
	return fmt.Sprintf("failed: %s", lambent.UserMessage(err))
}

// A tee writes to both, and fails for neither.
type tee struct{ to, log io.Writer }

func (t *tee) Write(p []byte) (int, error) {
	_, _ = t.log.Write(p)
	_, _ = t.to.Write(p)
	return len(p), nil
}

// Log returns the output of a function's last build. Kind: NotFound.
func (b *Builder) Log(n lambent.Name) (io.ReadCloser, error) {
	f, err := os.Open(b.logFile(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, lambent.Errorf(lambent.NotFound, "build.Log", "nothing was built for function %q", n.Function)
	}
	if err != nil {
		return nil, diskError(err)
	}
	return f, nil
}

// Forget removes the log of a function that is gone.
func (b *Builder) Forget(n lambent.Name) error {
	err := os.Remove(b.logFile(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
