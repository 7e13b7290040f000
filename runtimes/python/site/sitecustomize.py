"""The agent of Google's runtimes: boots parked, is assigned code, and becomes its functions framework.

It comes in by the only door that Python has before a program begins: this is `python -m functions_framework`,
which imports a module of this name first of all, from PYTHONPATH. When the module has been imported, everything
is as if it had begun then. Where LAMBENT_AHEAD names a directory with the framework, what that imports is
imported from there while nobody waits; whoever parks the sandbox sees to it that the code which comes there
later brings the very same files. ../../DESIGN.md has the protocol.
"""

import sys

THEIRS = set(sys.modules)  # and what is loaded ahead; the rest is ours

import json
import os
import time

FD = 3
HERE = os.path.dirname(__file__)


def give_up():
    """Ends the process with the error of the moment. Python would go on without us."""
    sys.excepthook(*sys.exc_info())
    sys.stderr.flush()
    os._exit(1)


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
    for path, finder in list(sys.path_importer_cache.items()):
        if (path + "/").startswith(task["task"] + "/"):  # it knows what was there before
            del sys.path_importer_cache[path]


def next_of_our_name():
    """Imports what would have been found without us: the host's own, or the code's."""
    sys.modules.pop("sitecustomize", None)
    import sitecustomize


def main():
    sys.path.remove(HERE)
    sys.path_importer_cache.pop(HERE, None)
    directory = os.environ.get("LAMBENT_AHEAD")
    rehearse, missing = bool, None
    if directory:  # the code has none
        try:
            next_of_our_name()
        except ImportError as e:
            missing = e
        rehearse = load(directory)
    os.write(FD, b"LAMBENT/1\n")
    assign(wait(rehearse))
    for name in set(sys.modules) - THEIRS:
        del sys.modules[name]
    if not directory:
        next_of_our_name()
    elif missing:
        raise missing


try:
    main()
except ImportError as e:
    if e.name != "sitecustomize":
        give_up()
    raise  # as if there were none: Python goes on
except BaseException:
    give_up()
