"""Runs the agent: as it was compiled before on this interpreter, or else from its source, which takes a fifth of the boot longer."""

import marshal
import sys

HERE = __file__[: -len("/boot.py")]


def compiled():
    """Returns the code of the agent's files, by name: what a driver had compile.py print, or nothing."""
    try:
        with open("/var/compiled/python%d.%d" % sys.version_info[:2], "rb") as f:
            made, codes = marshal.load(f)
        return codes if made == (HERE, sys.version) else {}
    except Exception:
        return {}


def code_of(name):
    file = HERE + "/" + name + ".py"
    if file in CODES:
        return CODES[file]
    with open(file, "rb") as f:
        return compile(f.read(), file, "exec", dont_inherit=True)


if __name__ == "__main__":
    CODES = compiled()
    __file__ = HERE + "/agent.py"
    exec(code_of("agent"))
