package machine

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// modules are what the machine and the tests need of the kernel beyond what is
// built in, which differs: a name that there is no module for is taken to be.
var modules = []string{
	"virtio_pci", "virtio_blk", "virtio_console", // the machine
	"loop", "overlay", "veth", "bridge", "tun", "dummy",
	"nf_tables", "nft_chain_nat", "nft_masq", "nft_ct", "nft_reject_inet", "nft_fib_inet", "nft_connlimit", "nft_limit", "nf_conntrack_netlink",
}

// writeInitrd writes what the kernel unpacks before it starts /init: that, the
// modules, and the job. (In cpio's format "newc", which is all that it needs.)
func (m Machine) writeInitrd(path string, argv []string, files map[string]string) error {
	var b cpio
	b.add("dev", fs.ModeDir|0o755, 0, nil)
	b.add("dev/console", fs.ModeCharDevice|0o600, 5<<8|1, nil)
	b.add("newroot", fs.ModeDir|0o755, 0, nil)
	b.add("modules", fs.ModeDir|0o755, 0, nil)
	b.add("job", fs.ModeDir|0o755, 0, nil)
	b.add("argv", 0o644, 0, []byte(strings.Join(argv, "\x00")))
	b.copy("init", m.init)
	paths, err := closure(filepath.Join(kernel(m.Kernel), "modules"), modules)
	if err != nil {
		return err
	}
	for i, path := range paths { // by their names in the order in which to load them
		b.copy(fmt.Sprintf("modules/%03d", i), path)
	}
	for name, path := range files {
		b.copy("job/"+name, path)
	}
	if b.err != nil {
		return b.err
	}
	b.add("TRAILER!!!", 0, 0, nil)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// A cpio is an archive. The first failure stays in err.
type cpio struct {
	bytes.Buffer
	inode int
	err   error
}

func (c *cpio) add(name string, mode fs.FileMode, device int, data []byte) {
	kind := 0o100000
	switch {
	case mode.IsDir():
		kind = 0o040000
	case mode&fs.ModeCharDevice != 0:
		kind = 0o020000
	}
	c.inode++
	fmt.Fprintf(c, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00", c.inode, kind|int(mode.Perm()), 0, 0, 1, 0, len(data),
		0, 0, device>>8, device&0xff, len(name)+1, 0, name)
	c.pad()
	c.Write(data)
	c.pad()
}

func (c *cpio) pad() { c.Write(make([]byte, -c.Len()&3)) }

// copy adds a file, or a directory with all that is in it.
func (c *cpio) copy(name, from string) {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		var data []byte
		if !d.IsDir() {
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		c.add(name+strings.TrimPrefix(path, from), info.Mode(), 0, data)
		return nil
	})
	if c.err == nil {
		c.err = err
	}
}

// closure returns the files of modules and of those that they depend on, each
// after its own.
func closure(dir string, names []string) (paths []string, err error) {
	all := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			all[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var add func(name string) error
	add = func(name string) error {
		path := all[strings.ReplaceAll(name, "-", "_")]
		if path == "" || slices.Contains(paths, path) {
			return nil
		}
		needs, err := depends(path)
		if err != nil {
			return err
		}
		for _, name := range needs {
			if err := add(name); err != nil {
				return err
			}
		}
		paths = append(paths, path)
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// depends reads which modules a module needs: packages have no list, it is made
// where they are installed.
func depends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Section(".modinfo").Data()
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(info), "\x00") {
		if names, ok := strings.CutPrefix(line, "depends="); ok && names != "" {
			return strings.Split(names, ","), nil
		}
	}
	return nil, nil
}
