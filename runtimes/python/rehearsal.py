"""What a parked agent does while it waits: it goes once through all that a function will use.

Whatever runs for the first time in a process is slow: imports, pages of the interpreter that nobody
has touched, its compiler, its caches. The rehearsal is the real thing, with warm.py as the function,
over a connection that is not there; what it changes is put back, so that a function finds a process
in which none ever ran.
"""

import gc
import importlib
import os
import sys


INSIDE = "/var/task"  # where the code will be, but for drivers that have it elsewhere


class Rehearsed(BaseException):
    """The end of the rehearsal: no handler's `except Exception` is in its way, and nobody else sees it."""


class Rehearsal(agent.Connection):
    """Has an assignment and one event, and takes whatever is said to it."""

    def __init__(self):
        super().__init__()
        env = {"TZ": ":UTC", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}
        task = agent.Encoder("").encode({"env": env, "handler": "warm.handler", "task": agent.HERE, "opt": "/opt"}).encode()
        event = agent.Encoder("").encode({"body": "\u00e9\n", "list": [1, 2.5, None, True], "nested": {"a": {}}}).encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 0\r\n"
            "Lambda-Runtime-Deadline-Ms: 1\r\nLambda-Runtime-Trace-Id: Root=1\r\nContent-Length: %d\r\n\r\n" % len(event)
        )
        self.buffer = len(task).to_bytes(4, "big") + task + b"\n" + head.encode() + event

    def fill(self):
        raise Rehearsed

    def send(self, data):
        pass


def rehearse():
    import logging

    env, cwd, path, importers = dict(os.environ), os.getcwd(), list(sys.path), set(sys.path_importer_cache)
    try:
        agent.run(Rehearsal())
    except Rehearsed:
        pass
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:] = path
    for name in set(sys.path_importer_cache) - importers:
        del sys.path_importer_cache[name]
    del sys.modules["warm"]
    logging.root.handlers.clear()
    agent.part("logs").prepare()
    importlib._bootstrap_external.PathFinder._path_importer_cache(INSIDE)  # who finds modules there; what is there it looks up when asked
    agent.under_way.request_id, agent.under_way.tenant_id = "", None


# What most functions import first, and what failing ones need. Each takes some milliseconds at most:
# an assignment that comes meanwhile waits for the end of one.
MODULES = ("functools", "enum", "re", "json", "tokenize", "traceback", "string", "weakref", "logging")


def steps():
    """Yields between one step and the next."""
    for name in MODULES:
        importlib.import_module(name)
        yield
    for name in ("errors", "logs", "values"):
        agent.part(name)
        yield
    rehearse()
    yield
    gc.collect()  # and out of the collector's sight with what is left
    gc.freeze()
