package main

import (
	"archive/zip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lambent"
	"lambent/bundle"
	"lambent/client"
)

// A source is the code to deploy: a directory or an archive.
type source struct {
	files fs.FS    // for detection
	name  string   // for a function that has no other; "" for standard input
	dir   string   // "": an archive
	zip   *os.File // nil: a directory
	temp  string   // a file to remove at the end
}

// open opens what the command line names.
func (p *program) open(arg string) (*source, error) {
	if arg == "-" {
		return p.openStdin()
	}
	info, err := os.Stat(arg)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, lambent.Errorf(lambent.NotFound, "", "there is no %q here", arg).WithHint("lambent init %s", arg)
		}
		return nil, lambent.Errorf(lambent.Invalid, "", "%w", err)
	}
	abs, err := filepath.Abs(arg)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "", "%w", err)
	}
	if info.IsDir() {
		return &source{files: os.DirFS(arg), name: filepath.Base(abs), dir: arg}, nil
	}
	f, err := os.Open(arg)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "", "%w", err)
	}
	s, err := openZip(f, arg)
	if err != nil {
		f.Close()
		return nil, err
	}
	s.name = strings.TrimSuffix(filepath.Base(abs), ".zip")
	return s, nil
}

// openStdin keeps an archive that comes as a stream, whose end has to be read
// first, in a file.
func (p *program) openStdin() (*source, error) {
	if isTerminal(p.in) {
		return nil, lambent.Errorf(lambent.Invalid, "", "standard input is a terminal: an archive must come from it").WithHint("lambent deploy - < FILE.zip")
	}
	f, err := os.CreateTemp("", "lambent-*.zip")
	if err != nil {
		return nil, err
	}
	drop := func() { f.Close(); os.Remove(f.Name()) }
	if _, err := io.Copy(f, p.in); err != nil {
		drop()
		return nil, lambent.Errorf(lambent.Invalid, "", "standard input cannot be read: %w", err)
	}
	s, err := openZip(f, "standard input")
	if err != nil {
		drop()
		return nil, err
	}
	s.temp = f.Name()
	return s, nil
}

func openZip(f *os.File, what string) (*source, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "", "%s: %w", what, err)
	}
	r, err := zip.NewReader(f, size)
	if err != nil {
		return nil, lambent.Errorf(lambent.Invalid, "", "%s is neither a directory nor a zip archive: %w", what, err).WithHint("lambent deploy DIR")
	}
	return &source{files: r, zip: f}, nil
}

func (s *source) close() {
	if s.zip != nil {
		s.zip.Close()
	}
	if s.temp != "" {
		os.Remove(s.temp)
	}
}

func (s *source) has(file string) bool {
	_, err := fs.Stat(s.files, file)
	return err == nil
}

// write writes the archive of the source.
func (s *source) write(ctx context.Context, w io.Writer) error {
	if s.zip != nil {
		if _, err := s.zip.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err := io.Copy(w, s.zip)
		return err
	}
	_, err := bundle.Pack(ctx, s.dir, w)
	return err
}

// upload sends the code while it is being packed.
func (p *program) upload(ctx context.Context, cl *client.Client, s *source) (*client.Code, error) {
	defer p.step("uploading the code")()
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := s.write(ctx, w)
		packed <- err
		w.CloseWithError(err)
	}()
	code, err := cl.PutCode(ctx, r, -1)
	r.CloseWithError(io.ErrClosedPipe) // whatever still packs stops
	if perr := <-packed; perr != nil && !errors.Is(perr, io.ErrClosedPipe) {
		return nil, perr // the cause of the server's complaint, if it has one
	}
	return code, err
}

// rehearseCode packs without sending, and says how much that is.
func (p *program) rehearseCode(ctx context.Context, s *source) error {
	defer p.step("packing the code")()
	var n counter
	if err := s.write(ctx, &n); err != nil {
		return err
	}
	p.note("the archive is %s", bytesOf(int64(n)))
	return nil
}

// rehearseAlone is a dry run without a server: unreachable says why there is none.
func (p *program) rehearseAlone(ctx context.Context, s *source, unreachable error) error {
	if err := p.rehearseCode(ctx, s); err != nil {
		return err
	}
	p.note("note: %s: limits and runtimes were not checked", lambent.UserMessage(unreachable))
	return nil
}

// A counter counts what is written to it.
type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}
