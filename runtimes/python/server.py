"""The agent of Google's runtimes: boots parked, is assigned code, and becomes its functions framework.

Its arguments are the framework's module, and the directory where the runtime has the same: what that
imports is imported from there while nobody waits. Whoever parks the sandbox sees to it that the code
which comes there later brings the very same files. ../DESIGN.md has the protocol.

From then on the process is what `python -m MODULE` is: nothing of the agent is left in its arguments,
its modules, its __main__ or its descriptors.
"""

import sys

if __name__ == "__main__":  # which is the program's to be: what is ours has names elsewhere
    exec(compile(__loader__.get_data(__file__), __file__, "exec"), {"__name__": "agent", "__file__": __file__})

THEIRS = set(sys.modules)  # and no others, but what is loaded ahead

import importlib
import json
import os
import runpy
import time

FD = 3


def part(name):
    """Runs another file of the agent, and returns its globals."""
    file = os.path.dirname(__file__) + "/" + name + ".py"
    with open(file, "rb") as f:
        code = compile(f.read(), file, "exec", dont_inherit=True)
    names = {"__name__": name, "__file__": file, "part": part}
    exec(code, names)
    return names


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


def assign(task, module):
    """Makes the process what the assignment says, and waits for the code."""
    os.environ.clear()  # through putenv, so that children inherit the same
    os.environ.update(task["env"])
    time.tzset()
    take(1)  # it is in place
    os.close(FD)
    os.chdir(task["task"])
    sys.path[:] = [task["task"]] + list(filter(None, os.environ.get("PYTHONPATH", "").split(":"))) + sys.path
    importlib.invalidate_caches()
    sys.argv[:] = ["-m"]
    sys.orig_argv[1:] = ["-m", module]


def main():
    module, *ahead = sys.argv[1:]
    del sys.path[0]  # our own directory
    rehearse = bool
    if ahead:
        loader = part("ahead")
        loader["load"](module, ahead[0])
        rehearse = loader["rehearse"]
        THEIRS.update(sys.modules)
    os.write(FD, b"LAMBENT/1\n")
    assign(wait(rehearse), module)
    for name in set(sys.modules) - THEIRS:
        del sys.modules[name]
    try:
        runpy._run_module_as_main(module)
    except Exception as e:  # told as if nobody had called it
        sys.excepthook(type(e), e, e.__traceback__.tb_next)
        sys.exit(1)


main()
