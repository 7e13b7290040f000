package runtimes_test

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"reflect"
	"testing"
	"time"

	"lambent"
)

// runLate is run with an agent that is booted for the function, with its
// environment.
func runLate(t *testing.T, rt lambent.Runtime, c call) transcript {
	t.Helper()
	task, opt := layOut(t, c)
	env := maps.Clone(rt.Env)
	maps.Copy(env, functionEnv(c, task, opt))
	conn, theirs := socketpair(t)
	p := &parked{start(t, rt.Late().Boot, env, task, theirs), conn}
	theirs.Close()
	layers := ""
	for name := range c.files {
		if len(name) > 4 && name[:4] == "opt/" {
			layers = opt
		}
	}
	b, err := json.Marshal(map[string]any{"env": nil, "handler": "?", "task": task, "opt": layers, "concurrency": 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...), '\n')); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
		p.Process.Kill()
		<-p.exited
		return transcript{Output: normal(p.output.String(), task, opt)}
	}
	_ = conn.SetReadDeadline(time.Time{})
	a := newAPI(c.events)
	a.conns.Go(func() { a.serve(conn, true) })
	waited := a.wait(t, p.process)
	conn.Close()
	<-p.exited
	a.conns.Wait()
	return a.transcript(p.process, waited, task, opt)
}

// TestLate: a function cannot tell whether its agent was parked, on the oldest and
// the newest version that is here.
func TestLate(t *testing.T) {
	for prefix, cases := range map[string]map[string]call{"python3": pythonCases, "nodejs": nodeCases} {
		list := family(t, prefix)
		for _, rt := range []lambent.Runtime{list[0], list[len(list)-1]} {
			t.Run(rt.Name, func(t *testing.T) {
				for name, c := range cases {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						if late, parked := runLate(t, rt, c), run(t, rt, c); !reflect.DeepEqual(late, parked) {
							t.Errorf("booted late:\n%+v\nparked:\n%+v", late, parked)
						}
					})
				}
			})
		}
	}
}

// TestFixedEnv: what FixedEnv has works at exec alone, and what is left out works
// in a parked agent. An agent that is parked and one that is booted late are asked
// for what the variable changes.
func TestFixedEnv(t *testing.T) {
	for _, c := range []struct {
		family, name, value string
		fixed               bool
		function            call
	}{
		{"python3", "PYTHONHASHSEED", "7", true, python("return hash('lambent')")},
		{"python3", "PYTHONOPTIMIZE", "2", true, python("return __debug__")},
		{"python3", "PYTHONWARNINGS", "error", true, python("import warnings", "return [f[0] for f in warnings.filters]")},
		{"python3", "PYTHONASYNCIODEBUG", "1", true, python("import asyncio", "return asyncio.new_event_loop().get_debug()")},
		{"python3", "PYTHONBREAKPOINT", "os.getcwd", true, python("import pdb", "pdb.set_trace = lambda *a, **k: 'pdb'", "return breakpoint()")},
		{"python3", "PYTHONTRACEMALLOC", "1", true, python("import tracemalloc", "return tracemalloc.is_tracing()")},
		{"python3", "PYTHONPATH", "/somewhere", false, python("import sys", "return '/somewhere' in sys.path")},
		{"python3", "TZ", "Asia/Tokyo", false, python("import time", "return time.localtime(0)[3]")},
		{"nodejs", "NODE_OPTIONS", "--stack-trace-limit=3", true, async("return Error.stackTraceLimit")},
		{"nodejs", "NODE_DEBUG", "x", true, async("return require('util').debuglog('x').enabled")},
		{"nodejs", "NODE_NO_WARNINGS", "1", true, async("return process.listenerCount('warning')")},
		{"nodejs", "LANG", "de_DE.UTF-8", true, async("return Intl.DateTimeFormat().resolvedOptions().locale")},
		{"nodejs", "LC_ALL", "de_DE.UTF-8", true, async("return Intl.DateTimeFormat().resolvedOptions().locale")},
		{"nodejs", "NODE_PATH", "/somewhere", false, async("return require('module').globalPaths.includes('/somewhere')")},
		{"nodejs", "TZ", "Asia/Tokyo", false, async("return new Date(0).getHours()")},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := family(t, c.family)
			rt := list[len(list)-1]
			if got := len(rt.Fixed(&lambent.Config{Env: map[string]string{c.name: c.value}})) == 1; got != c.fixed {
				t.Errorf("%s is among FixedEnv: %v", c.name, got)
			}
			c.function.events = one
			without := runLate(t, rt, c.function)
			c.function.env = map[string]string{c.name: c.value}
			parked, late := run(t, rt, c.function), runLate(t, rt, c.function)
			if len(late.Answers) != 1 || late.Answers[0].Kind != "response" || reflect.DeepEqual(late.Answers, without.Answers) {
				t.Errorf("at exec it changes nothing: %+v", late)
			}
			if works := reflect.DeepEqual(parked.Answers, late.Answers); works == c.fixed {
				t.Errorf("in a parked agent it works: %v, %+v; at exec %+v", works, parked.Answers, late.Answers)
			}
		})
	}
}
