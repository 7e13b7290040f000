"""The agent of Google's runtimes: boots parked, is assigned code, and becomes its functions framework.

It comes in by the only door that Python has before a program begins: this is `python -m functions_framework`,
which imports a module of this name first of all, from PYTHONPATH. When the module has been imported, everything
is as if it had begun then. Where LAMBENT_AHEAD names a directory with the framework, what that imports is
imported from there while nobody waits; whoever parks the sandbox sees to it that the code which comes there
later brings the very same files. ../../DESIGN.md has the protocol.
"""

import sys

THEIRS = set(sys.modules)  # and what is loaded ahead; the rest is ours

import importlib
import json
import os
import time

FD = 3
HERE = os.path.dirname(__file__)


def take(n):
    data = b""
    while len(data) < n:
        more = os.read(FD, n - len(data))
        if not more:  # the server is gone
            os._exit(0)
        data += more
    return data


def wait(rehearse):
    """Waits for the assignment. Meanwhile it rehearses, if it is told to."""
    while (length := int.from_bytes(take(4), "big")) == 0:
        rehearse()
    return json.loads(take(length))


def load(directory):
    """Loads the framework, and returns what rehearses it."""
    file = os.path.dirname(HERE) + "/ahead.py"
    with open(file, "rb") as f:
        code = compile(f.read(), file, "exec", dont_inherit=True)
    names = {"__name__": "ahead", "__file__": file}
    exec(code, names)
    names["load"](directory)
    THEIRS.update(sys.modules)
    return names["rehearse"]


def assign(task):
    """Makes the process what the assignment says, and waits for the code."""
    os.environ.clear()  # through putenv, so that children inherit the same
    os.environ.update(task["env"])
    time.tzset()
    take(1)  # it is in place
    os.close(FD)
    os.chdir(task["task"])
    sys.path[:0] = dict.fromkeys(map(os.path.abspath, filter(None, os.environ.get("PYTHONPATH", "").split(":"))))
    importlib.invalidate_caches()


def main():
    sys.path.remove(HERE)
    directory = os.environ.get("LAMBENT_AHEAD")
    rehearse = load(directory) if directory else bool
    os.write(FD, b"LAMBENT/1\n")
    assign(wait(rehearse))
    del sys.path_importer_cache[HERE]
    for name in set(sys.modules) - THEIRS:
        del sys.modules[name]


try:
    main()
except BaseException:  # else Python would go on without us
    sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    os._exit(1)
del sys.modules[__name__]
try:
    import sitecustomize  # the host's own, or the code's
except ImportError as e:
    if e.name != "sitecustomize":
        raise
