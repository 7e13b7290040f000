package sandboxtest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"lambent/sandbox"
)

func (s suite) hammer(t *testing.T, d sandbox.Driver) {
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	code := s.codeDir(t)
	if err := os.WriteFile(filepath.Join(code, "bootstrap"), []byte("#!/bin/sh\necho hi\nsleep 1000\n"), 0o555); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if err := cycle(t, d, code); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func cycle(t *testing.T, d sandbox.Driver, code string) error {
	b, err := d.Park(t.Context(), generic)
	if err != nil {
		return err
	}
	defer b.Output().Close()
	defer b.Destroy()
	if err := b.Assign(t.Context(), bootstrap(code)); err != nil {
		return err
	}
	buf := make([]byte, 3)
	if _, err := io.ReadFull(b.Output(), buf); err != nil || !bytes.Equal(buf, []byte("hi\n")) {
		return fmt.Errorf("read %q, %v", buf, err)
	}
	return b.Destroy()
}
