package bundle

import (
	"archive/zip"
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"math"
	"slices"

	"lambent"
)

// zip's general purpose flags that mean encryption (APPNOTE 4.4.4).
const flagsEncrypted = 1<<0 | 1<<6 | 1<<13

// readZip judges an archive by its directory and its links. Contents are read
// and judged later, while they are written: see [Store.write].
func readZip(op string, r io.ReaderAt, size int64, limits lambent.Limits) (*tree, error) {
	directory := &directoryReader{ReaderAt: r, left: 2*limits.MaxFiles + 2000}
	archive, err := zip.NewReader(directory, size)
	directory.left = math.MaxInt
	switch {
	case errors.Is(err, errTooMany) || err == nil && len(archive.File) > limits.MaxFiles:
		return nil, lambent.Errorf(lambent.TooLarge, op, "the archive has more entries than the limit of %d", limits.MaxFiles)
	case err != nil && !errors.Is(err, zip.ErrInsecurePath): // insecure paths get a better message below
		return nil, lambent.Errorf(lambent.Invalid, op, "this is not a zip archive, or it is cut short: %w", err)
	}
	t := newTree(op, limits.MaxFiles)
	var declared uint64
	for _, f := range archive.File {
		if declared += f.UncompressedSize64; f.UncompressedSize64 > uint64(limits.MaxTree) || declared > uint64(limits.MaxTree) {
			return nil, tooBig(op, limits.MaxTree)
		}
		n := &node{exec: f.Mode()&0o111 != 0, open: f.Open}
		switch kind := f.Mode().Type(); {
		case f.Flags&flagsEncrypted != 0:
			return nil, t.refuse(f.Name, "is encrypted")
		case f.Method != zip.Store && f.Method != zip.Deflate:
			return nil, t.refuse(f.Name, "is compressed by method %d: only stored (0) and deflated (8) entries are read", f.Method)
		case kind == fs.ModeDir:
			n = &node{kind: fs.ModeDir}
		case kind == fs.ModeSymlink:
			target, err := readLink(f)
			if err != nil {
				return nil, t.refuse(f.Name, "is damaged: %w", err)
			}
			n = &node{kind: fs.ModeSymlink, target: target}
		case kind != 0:
			return nil, t.refuse(f.Name, "is a %s: only files, directories and links are stored", special(kind))
		}
		if err := t.add(f.Name, n); err != nil {
			return nil, err
		}
	}
	if t.files == 0 {
		return nil, lambent.Errorf(lambent.Invalid, op, "the archive has no files in it")
	}
	if err := checkOverlap(t, archive.File, size); err != nil {
		return nil, err
	}
	return t, t.checkLinks()
}

// A directoryReader stops zip.NewReader, which keeps some 200 bytes for each entry
// of the archive's directory, before a small archive of a million entries takes
// the server's memory. It counts roughly (what is at the end is read twice), so
// it is given twice the limit.
type directoryReader struct {
	io.ReaderAt
	left int
}

var errTooMany = errors.New("too many entries")

func (d *directoryReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.ReaderAt.ReadAt(p, off)
	if d.left == math.MaxInt {
		return n, err // the directory has been read; this is content
	}
	if d.left -= bytes.Count(p[:n], []byte("PK\x01\x02")); d.left < 0 {
		return 0, errTooMany
	}
	return n, err
}

func readLink(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxTarget+1))
	return string(b), err
}

// checkOverlap refuses archives whose entries share bytes: two programs would
// read two different trees from them, and a small file could claim any number of
// large ones.
func checkOverlap(t *tree, files []*zip.File, size int64) error {
	const header = 30 // bytes of a local file header before the name
	type span struct {
		from, to int64 // of the compressed data
		name     string
	}
	spans := make([]span, 0, len(files))
	for _, f := range files {
		from, err := f.DataOffset()
		if err != nil {
			return t.refuse(f.Name, "is damaged: %w", err)
		}
		spans = append(spans, span{from, from + int64(f.CompressedSize64), f.Name})
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	for i, s := range spans {
		if s.to < s.from || s.to > size {
			return t.refuse(s.name, "is damaged: its data would end outside the archive")
		}
		if i+1 < len(spans) && s.to+header+int64(len(spans[i+1].name)) > spans[i+1].from {
			return t.refuse(s.name, "overlaps the entry %.200q", spans[i+1].name)
		}
	}
	return nil
}

// special names a kind of file that is never stored.
func special(kind fs.FileMode) string {
	switch {
	case kind&fs.ModeNamedPipe != 0:
		return "named pipe"
	case kind&fs.ModeSocket != 0:
		return "socket"
	case kind&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

func tooBig(op string, limit int64) error {
	return lambent.Errorf(lambent.TooLarge, op, "unpacked, the code is over the limit of %d MB", limit>>20).
		WithHint("leave out what the function does not need, or have the runtime bring it: lambent runtime add RUNTIME --packages ...")
}
