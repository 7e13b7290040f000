//go:build amd64 || arm64

package namespace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"lambent"
)

// diskMB is what a disk holds at first: AWS's default for /tmp.
const diskMB = 512

//go:embed tmp/disk.gz
var emptyDisk []byte // see tmp/build.go

// A disk is the /tmp of a slot: an ext4 file system in a sparse file, so that it is
// on disk, is not charged to the function's memory, and ends where its limit is. It
// is kept for the slot's next sandbox if the last one left no trace.
//
// It is used by one sandbox at a time, and so by one goroutine.
type disk struct {
	mounted string // where, in the workshop
	image   *os.File
	device  *os.File
	dir     *os.File // its root directory
	sizeMB  int
	clean   traces
}

// traces is what a disk that was written to has changed.
type traces struct {
	freeBlocks, freeFiles uint64
	changed               syscall.Timespec // of the root directory
	allocated             int64            // sectors of the file
}

// makeDisk makes a disk whose file is in dir, without a name, so that a crash
// leaves nothing. It runs on a thread in the workshop, where the disk is mounted
// under a name.
func makeDisk(dir *os.File, name string) (_ *disk, err error) {
	d := &disk{mounted: filepath.Join(workshopDir, name), sizeMB: diskMB}
	defer func() {
		if err != nil {
			d.remove()
			err = lambent.Errorf(lambent.Unsupported, "namespace.Park", "a disk for /tmp: %w", err)
		}
	}()
	if d.image, err = namelessFile(dir); err != nil {
		return nil, err
	}
	if err := writeDisk(d.image); err != nil {
		return nil, err
	}
	if d.device, err = attachLoop(d.image); err != nil {
		return nil, err
	}
	if err := os.Mkdir(d.mounted, 0o700); err != nil {
		return nil, err
	}
	// What is in the sparse file and was never written is zero already.
	if err := unix.Mount(d.device.Name(), d.mounted, "ext4", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME, "noinit_itable"); err != nil {
		return nil, &os.PathError{Op: "mount", Path: d.device.Name(), Err: err}
	}
	if d.dir, err = os.Open(d.mounted); err != nil {
		return nil, err
	}
	d.clean, err = d.traces()
	return d, err
}

func namelessFile(dir *os.File) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), "disk"), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, &os.PathError{Op: "open", Path: dir.Name(), Err: err}
	}
	f, err := os.CreateTemp(dir.Name(), ".disk-") // a file system without such files: for a moment it has a name
	if err == nil {
		err = os.Remove(f.Name())
	}
	return f, err
}

func writeDisk(image *os.File) error {
	if err := image.Truncate(fileSize(diskMB)); err != nil {
		return err
	}
	z, err := gzip.NewReader(bytes.NewReader(emptyDisk))
	if err != nil {
		return err
	}
	r := bufio.NewReader(z)
	for {
		var n uint32
		if err := binary.Read(r, binary.LittleEndian, &n); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var block [4096]byte
		if _, err := io.ReadFull(r, block[:]); err != nil {
			return err
		}
		if _, err := image.WriteAt(block[:], int64(n)*int64(len(block))); err != nil {
			return err
		}
	}
}

// fileSize is how large a file is that holds this much: a 28th more is for the
// file system's own records.
func fileSize(holdsMB int) int64 { return int64(holdsMB+holdsMB/28+2) << 20 }

// attachLoop makes a block device of a file. The device goes when it is closed and
// no longer mounted.
func attachLoop(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Size: 4096}
	config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:len(config.Info.File_name)-1], image.Name())
	for range 100 { // somebody else may take the one that was free
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, os.NewSyscallError("LOOP_CTL_GET_FREE", err)
		}
		name := fmt.Sprintf("/dev/loop%d", n)
		device, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) { // where nobody makes device files by itself
			if err := unix.Mknod(name, unix.S_IFBLK|0o660, int(unix.Mkdev(7, uint32(n)))); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, &os.PathError{Op: "mknod", Path: name, Err: err}
			}
			device, err = os.OpenFile(name, os.O_RDWR, 0)
		}
		if err != nil {
			return nil, err
		}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, os.NewSyscallError("LOOP_CONFIGURE", err)
		}
	}
	return nil, errors.New("no loop device is free")
}

// grow makes the disk hold so much, if it is smaller.
func (d *disk) grow(holdsMB int) error {
	if holdsMB <= d.sizeMB {
		return nil
	}
	fail := func(what string, err error) error {
		return lambent.Errorf(lambent.Internal, "namespace.Assign", "a disk of %d MB for /tmp: %s: %w", holdsMB, what, err)
	}
	size := fileSize(holdsMB)
	if err := d.image.Truncate(size); err != nil {
		return fail("truncate", err)
	}
	if err := unix.IoctlSetInt(int(d.device.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fail("LOOP_SET_CAPACITY", err)
	}
	blocks := uint64(size / 4096)
	const resize = 0x40086610 // EXT4_IOC_RESIZE_FS
	if err := d.ioctl(resize, unsafe.Pointer(&blocks)); errors.Is(err, syscall.EPERM) {
		return lambent.Errorf(lambent.Unsupported, "namespace.Assign", "a /tmp of over %d MB needs a server with the capability CAP_SYS_RESOURCE, which this one was started without", diskMB).
			WithHint("docker run --cap-add SYS_RESOURCE ...   (or: CapabilityBoundingSet= in the server's unit)")
	} else if err != nil {
		return fail("EXT4_IOC_RESIZE_FS", err)
	}
	d.sizeMB = holdsMB
	return nil
}

func (d *disk) ioctl(request uintptr, arg unsafe.Pointer) error {
	return again(func() error {
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, d.dir.Fd(), request, uintptr(arg)); e != 0 {
			return e
		}
		return nil
	})
}

// mount returns a mount of the disk to be handed to a sandbox. It runs on a thread
// in the workshop.
func (d *disk) mount() (*os.File, error) { return clone(d.dir, writable) }

func (d *disk) traces() (t traces, err error) {
	var fs unix.Statfs_t
	if err := again(func() error { return unix.Fstatfs(int(d.dir.Fd()), &fs) }); err != nil {
		return t, err
	}
	root, err := d.dir.Stat()
	if err != nil {
		return t, err
	}
	file, err := d.image.Stat()
	if err != nil {
		return t, err
	}
	return traces{fs.Bfree, fs.Ffree, root.Sys().(*syscall.Stat_t).Ctim, file.Sys().(*syscall.Stat_t).Blocks}, nil
}

// reusable reports whether the disk is as it was made: nothing in it, and no space
// of the host held by what was there. Sectors that mounting itself wrote may have
// come meanwhile.
func (d *disk) reusable() bool {
	const slack = 1 << 20 / 512
	now, err := d.traces()
	return err == nil && d.sizeMB == diskMB && now.freeBlocks == d.clean.freeBlocks && now.freeFiles == d.clean.freeFiles &&
		now.changed == d.clean.changed && now.allocated <= d.clean.allocated+slack
}

// remove gives the disk back, as far as it was made. It runs on a thread in the
// workshop.
func (d *disk) remove() {
	if d.dir != nil {
		// That it is shut down the kernel calls an alert, which a console on a serial line takes
		// milliseconds to print, for which a processor hears nothing else.
		_ = os.WriteFile("/sys/fs/ext4/"+filepath.Base(d.device.Name())+"/msg_ratelimit_burst", []byte("0"), 0)
		// Nobody wants what is not written yet.
		flags := uint32(2)          // EXT4_GOING_FLAGS_NOLOGFLUSH
		const shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN
		_ = d.ioctl(shutdown, unsafe.Pointer(&flags))
		d.dir.Close()
	}
	_ = unix.Unmount(d.mounted, unix.MNT_DETACH)
	_ = os.Remove(d.mounted)
	if d.device != nil {
		d.device.Close()
	}
	if d.image != nil {
		d.image.Close()
	}
}
