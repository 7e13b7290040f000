package rootfs

import (
	"bytes"
	"context"
	"io"
	"os"
)

// Unpack writes one archive into a directory, as Add does.
func Unpack(ctx context.Context, dir string, r io.Reader, layered bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	in, err := decompress(r)
	if err != nil {
		return err
	}
	defer in.Close()
	u := (&Store{o: Options{MaxBytes: 4 << 20, MaxFiles: 100}}).newUnpacker(ctx, root)
	u.layered = layered
	return u.unpack(in)
}

// Decompressed returns what is compressed, or is not.
func Decompressed(b []byte) ([]byte, error) {
	r, err := decompress(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
