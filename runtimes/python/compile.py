"""Prints the agent, compiled, for boot.py."""

import marshal
import sys

HERE = __file__[: -len("/compile.py")]
CODES = {}

for name in ("agent", "errors", "lanes", "logs", "values", "rehearsal"):
    file = HERE + "/" + name + ".py"
    with open(file, "rb") as f:
        CODES[file] = compile(f.read(), file, "exec", dont_inherit=True)
sys.stdout.buffer.write(marshal.dumps(((HERE, sys.version), CODES)))
