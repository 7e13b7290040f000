//go:build ignore

// Build makes disk.gz, the file system that a slot's /tmp begins as: what mke2fs
// writes for 512 MB and its own records, without a journal (what is in /tmp does not outlive its
// sandbox), as the blocks that are not empty, each behind its number.
//
//	go run build.go
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
)

const block = 4096

func main() {
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "image")
	run("truncate", "-s", "532M", image)
	run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-I", "256", "-i", "8192", "-L", "lambent-tmp",
		"-U", "6c616d62-656e-7400-746d-700000000000",
		"-O", "none,extent,filetype,sparse_super,large_file,huge_file,dir_index,resize_inode,flex_bg,uninit_bg,dir_nlink,extra_isize",
		"-E", "lazy_itable_init=1,assume_storage_prezeroed=1,packed_meta_blocks=1,hash_seed=6c616d62-656e-7400-746d-700000000001,resize=2719744", image)
	run("debugfs", "-w", "-R", "rmdir lost+found", image)
	run("debugfs", "-w", "-R", "sif / mode 041777", image)
	run("debugfs", "-w", "-R", "sif / links_count 2", image)

	raw, err := os.ReadFile(image)
	check(err)
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	check(err)
	empty := make([]byte, block)
	for n := 0; n*block < len(raw); n++ {
		if b := raw[n*block:][:block]; !bytes.Equal(b, empty) {
			check(binary.Write(z, binary.LittleEndian, uint32(n)))
			_, err := z.Write(b)
			check(err)
		}
	}
	check(z.Close())
	check(os.WriteFile("disk.gz", out.Bytes(), 0o644))
}

func run(name string, args ...string) {
	cmd := exec.Command(name, args...)
	// The same bytes each time.
	cmd.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=1700000000", "SOURCE_DATE_EPOCH=1700000000")
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	check(cmd.Run())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
