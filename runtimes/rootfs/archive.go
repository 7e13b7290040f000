package rootfs

import (
	"archive/tar"
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd stream may ask for.
const maxWindow = 128 << 20

// decompress returns the content of a stream that is compressed by gzip or zstd,
// or not at all.
func decompress(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		return gzip.NewReader(in)
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(in), nil
}

// An archive is a tar file on disk, with a list of what is where in it.
type archive struct {
	file  *os.File
	spans map[string]span
	links map[string]string // older versions of docker save link equal layers
}

type span struct{ at, size int64 }

// spool takes in a tar file, compressed or not, and lists it. maxEntries bounds
// the list.
func spool(ctx context.Context, r io.Reader, dir string, maxBytes int64, maxEntries int) (_ *archive, err error) {
	in, err := decompress(r)
	if err != nil {
		return nil, damaged(err)
	}
	defer in.Close()
	f, err := os.OpenFile(filepath.Join(dir, "archive"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, spans: map[string]span{}, links: map[string]string{}}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	limit := &unpacker{max: maxBytes, maxEntries: maxEntries} // for its words
	stream := &capped{r: in, left: maxBytes + maxBytes/8 + 64<<20, err: limit.tooBig()}
	buf := make([]byte, 128<<10)
	for {
		n, err := stream.Read(buf)
		if _, err := f.Write(buf[:n]); err != nil {
			return nil, err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, damaged(err)
		}
		if ctx.Err() != nil {
			return nil, canceled(ctx)
		}
	}
	return a, a.list(limit)
}

// list reads the headers.
func (a *archive) list(limit *unpacker) error {
	if _, err := a.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for t, n := tar.NewReader(a.file), 0; ; n++ {
		h, err := t.Next()
		switch {
		case err == io.EOF && n == 0:
			return damaged(fmt.Errorf("it is empty"))
		case err == io.EOF:
			return nil
		case err != nil:
			return damaged(err)
		case n == limit.maxEntries:
			return limit.tooMany()
		}
		at, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			a.spans[name] = span{at, h.Size}
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean(h.Linkname)
		}
	}
}

// whole returns all of the archive.
func (a *archive) whole() io.Reader { return io.NewSectionReader(a.file, 0, 1<<62) }

func (a *archive) find(name string) (span, bool) {
	name = path.Clean(name)
	if to, ok := a.links[name]; ok {
		name = to
	}
	s, ok := a.spans[name]
	return s, ok
}

func (a *archive) has(name string) bool {
	_, ok := a.find(name)
	return ok
}

func (a *archive) size(name string) int64 {
	s, _ := a.find(name)
	return s.size
}

func (a *archive) open(name string) (io.ReadCloser, error) {
	s, ok := a.find(name)
	if !ok {
		return nil, fmt.Errorf("the archive has no %.200q", name)
	}
	return io.NopCloser(io.NewSectionReader(a.file, s.at, s.size)), nil
}
