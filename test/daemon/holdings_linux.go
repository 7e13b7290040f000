package daemon

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Holdings are the things that a server has of the machine for its sandboxes, by what
// they are: the kind is the first word. Each says whether it is there still, and is told
// from whatever has its name later, so that others may come and go meanwhile.
//
// A mount is there as long as the namespace that it is in; those of the machine's own
// are things by themselves. Before Linux 6.18 a namespace cannot be told from a later
// one, and none is listed.
type Holdings map[string]func() bool

// Left lists what is there still: all of it, while the server runs.
func (h Holdings) Left() []string {
	var left []string
	for _, what := range slices.Sorted(maps.Keys(h)) {
		if h[what]() {
			left = append(left, what)
		}
	}
	return left
}

// Holdings lists what a server has now.
func (d *Daemon) Holdings(t testing.TB) Holdings {
	t.Helper()
	h := Holdings{}
	for _, pid := range append(Descendants(d.PID()), d.PID()) {
		if begun := began(pid); begun != "" {
			h[fmt.Sprintf("process %d", pid)] = func() bool { return began(pid) == begun }
		}
		h.namespaces(pid)
	}
	n := d.number(t)
	h.directories("group", fmt.Sprintf("/sys/fs/cgroup/*/lambent-%d/*", n))
	h.directories("group", fmt.Sprintf("/sys/fs/cgroup/lambent-%d/*", n))
	h.directories("interface", fmt.Sprintf("/sys/class/net/lam%d-*", n))
	h.disks(d.Data)
	h.policies(t, n)
	h["mount of the machine's own"] = func() bool {
		b, _ := os.ReadFile("/proc/self/mountinfo")
		return bytes.Contains(b, []byte(" /run/lambent/")) || bytes.Contains(b, []byte(" - tmpfs lambent "))
	}
	return h
}

// Frozen counts a server's sandboxes that are.
func (d *Daemon) Frozen(t testing.TB) (n int) {
	t.Helper()
	for pattern, mark := range map[string]string{"/sys/fs/cgroup/freezer/lambent-%d/*/freezer.state": "FROZEN", "/sys/fs/cgroup/lambent-%d/*/cgroup.events": "frozen 1"} {
		files, _ := filepath.Glob(fmt.Sprintf(pattern, d.number(t)))
		for _, f := range files {
			b, _ := os.ReadFile(f) // it may be gone
			if strings.Contains(string(b), mark) {
				n++
			}
		}
	}
	return n
}

// number is that by which what a server has of the machine is named.
func (d *Daemon) number(t testing.TB) int {
	t.Helper()
	for _, pid := range append(Descendants(d.PID()), d.PID()) {
		for _, open := range links(fmt.Sprintf("/proc/%d/fd/*", pid)) {
			var n int
			if _, err := fmt.Sscanf(open, "/run/lambent/sandboxes-%d.lock", &n); err == nil {
				return n
			}
		}
	}
	t.Fatal("the server has no number: its driver is not namespace")
	return 0
}

// Descendants returns the processes that a process has started, and theirs.
func Descendants(pid int) (all []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f) // the thread may have ended
		for _, field := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(append(all, child), Descendants(child)...)
			}
		}
	}
	return all
}

// began is when a process did, in the kernel's words; empty: it has ended.
func began(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}

// links maps links of /proc to what they lead to.
func links(pattern string) map[string]string {
	all := map[string]string{}
	found, _ := filepath.Glob(pattern)
	for _, link := range found {
		if to, err := os.Readlink(link); err == nil { // or it is closed
			all[link] = to
		}
	}
	return all
}

// namespaces adds those that a process is in, or has open.
func (h Holdings) namespaces(pid int) {
	ours := slices.Collect(maps.Values(links("/proc/self/ns/*")))
	for _, pattern := range []string{"/proc/%d/task/*/ns/*", "/proc/%d/fd/*"} {
		for link, name := range links(fmt.Sprintf(pattern, pid)) {
			what := "namespace " + name
			if h[what] != nil || slices.Contains(ours, name) || !regexp.MustCompile(`^[a-z]+:\[`).MatchString(name) || strings.HasPrefix(name, "socket:") || strings.HasPrefix(name, "pipe:") {
				continue
			}
			handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, link, unix.AT_SYMLINK_FOLLOW)
			if err != nil {
				continue
			}
			h[what] = func() bool {
				fd, err := unix.OpenByHandleAt(unix.FD_NSFS_ROOT, handle, unix.O_RDONLY|unix.O_CLOEXEC)
				if err == nil {
					unix.Close(fd)
				}
				return err == nil
			}
		}
	}
}

// directories adds those of the kernel's file systems, which give a later one of the
// same name another inode.
func (h Holdings) directories(kind, pattern string) {
	found, _ := filepath.Glob(pattern)
	for _, dir := range found {
		if was, err := os.Stat(dir); err == nil && was.IsDir() {
			h[kind+" "+dir] = func() bool {
				is, err := os.Stat(dir)
				return err == nil && os.SameFile(is, was)
			}
		}
	}
}

// disks adds the devices whose files are in the server's directory.
func (h Holdings) disks(data string) {
	devices, _ := filepath.Glob("/sys/block/loop*")
	for _, device := range devices {
		sequence := func() string {
			file, _ := os.ReadFile(device + "/loop/backing_file")
			if !strings.HasPrefix(string(file), data+"/") {
				return ""
			}
			n, _ := os.ReadFile(device + "/diskseq")
			return string(n)
		}
		if was := sequence(); was != "" {
			h["disk "+filepath.Base(device)] = func() bool { return sequence() == was }
		}
	}
}

// policies adds those that the packet filter knows for sandboxes.
func (h Holdings) policies(t testing.TB, number int) {
	t.Helper()
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: fmt.Sprintf("lambent%d", number)}
	was := handle(table)
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	known := func() []nftables.SetElement {
		set, err := c.GetSetByName(table, "policies")
		if err != nil {
			return nil // there is no table
		}
		elements, _ := c.GetSetElements(set) // it may go meanwhile
		return elements
	}
	for _, e := range known() {
		h[fmt.Sprint("policy of ", net.IP(e.Key))] = func() bool {
			return bytes.Equal(handle(table), was) && slices.ContainsFunc(known(), func(is nftables.SetElement) bool { return bytes.Equal(is.Key, e.Key) })
		}
	}
}

// handle returns the kernel's own number of a table; nil where there is none.
func handle(table *nftables.Table) []byte {
	const handle = 4 // NFTA_TABLE_HANDLE
	ask := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, 0)
	ask.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(table.Family)})
	ask.AddData(nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(table.Name)))
	answers, _ := ask.Execute(unix.NETLINK_NETFILTER, 0)
	for _, answer := range answers {
		attributes, _ := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
		for _, a := range attributes {
			if a.Attr.Type == handle {
				return a.Value
			}
		}
	}
	return nil
}
