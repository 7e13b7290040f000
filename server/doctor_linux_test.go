package server

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSwapFinding(t *testing.T) {
	const (
		none = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
		some = none + "/dev/sda2                               partition\t1998844\t\t0\t\t-2\n"
	)
	for _, c := range []struct {
		name, swaps string
		files       []string
		want        State
	}{
		{"no swap", none, []string{"system.slice/memory.max"}, Good},
		{"no /proc", "", nil, Good},
		{"v2 counts it", some, []string{"init.scope/memory.max", "system.slice/memory.max", "system.slice/memory.swap.max"}, Good},
		{"v2 does not", some, []string{"system.slice/memory.max", "cgroup.controllers"}, Absent},
		{"v2 without groups", some, []string{"cgroup.controllers"}, Good},
		{"v1 counts it", some, []string{"memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes"}, Good},
		{"v1 does not", some, []string{"memory/memory.limit_in_bytes", "unified/cgroup.procs"}, Absent},
	} {
		dir := t.TempDir()
		for _, f := range c.files {
			write(t, filepath.Join(dir, f))
		}
		if f := swapFinding(c.swaps, dir); f.State != c.want || (f.Mend == "") != (c.want == Good) {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestPollFinding(t *testing.T) {
	for _, c := range []struct {
		governor, ns string
		want         []State
	}{
		{"menu", "", nil},
		{"haltpoll", "200000", []State{Good}},
		{"haltpoll", "0", []State{Absent}},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"devices/system/cpu/cpuidle/current_governor": c.governor, "module/haltpoll/parameters/guest_halt_poll_ns": c.ns} {
			file := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var got []State
		for _, f := range pollFinding(dir) {
			got = append(got, f.State)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestConsoleFinding(t *testing.T) {
	for _, c := range []struct {
		consoles, printk string
		want             []State
	}{
		{"tty0                 -WU (EC  p  )    4:1\n", "7\t4\t1\t7\n", nil},
		{"ttyS0                -W- (EC  p a)    4:64\n", "4\t4\t1\t7\n", []State{Absent}},
		{"tty0  -WU (EC  p  )    4:1\nttyAMA0                -W- (E   p a)    204:64\n", "7\t4\t1\t7\n", []State{Absent}},
		{"ttyS0                -W- (EC  p a)    4:64\n", "3\t4\t1\t7\n", []State{Good}},
		{"ttyS0                -W- (    p a)    4:64\n", "7\t4\t1\t7\n", nil}, // it is not used
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "sys/kernel"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"consoles": c.consoles, "sys/kernel/printk": c.printk} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var got []State
		for _, f := range consoleFinding(dir) {
			got = append(got, f.State)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
