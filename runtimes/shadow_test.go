package runtimes_test

import (
	"testing"

	"lambent"
)

// TestShadows: a function that calls a module of its own as one of the interpreter's
// is called gets, of those that AWS's client has imported before, the interpreter's;
// and the agent does not take a function's for its own needs. It makes no difference
// whether there was time for a rehearsal.
func TestShadows(t *testing.T) {
	for name, c := range map[string]call{
		"json":      {files: map[string]string{"json.py": "own = True\n", "app.py": "import json\ndef h(e, c): return json.dumps(e)\n"}},
		"logging":   {files: map[string]string{"logging.py": "own = True\n", "app.py": "import logging\ndef h(e, c): return logging.getLevelName(30)\n"}},
		"traceback": {files: map[string]string{"traceback.py": "own = True\n", "app.py": "def h(e, c): raise ValueError('mine')\n"}},
		"re":        {files: map[string]string{"re.py": "own = True\n", "app.py": "import decimal\ndef h(e, c): return decimal.Decimal('1.5')\n"}},
	} {
		c.handler, c.events = "app.h", one
		for _, rt := range family(t, "python3") {
			t.Run(name+"/"+rt.Name, func(t *testing.T) {
				want := show(t, rehearsed(t, rt, c))
				for how, run := range map[string]func(*testing.T, lambent.Runtime, call) transcript{"without a rehearsal": run, "late": runLate} {
					if got := show(t, run(t, rt, c)); got != want {
						t.Errorf("%s:\n%s\nafter a rehearsal:\n%s", how, got, want)
					}
				}
			})
		}
	}
}
