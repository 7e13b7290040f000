"""What of a functions framework is loaded while the sandbox is parked: all that it imports up to its first request, by the
paths that it will have; and a rehearsal."""

import gc
import importlib
import os
import sys

# The function of the rehearsal, by a name that nobody else's has.
NAME = "lambent_warm_function"
WARM = os.path.dirname(__file__) + "/" + NAME + ".py"

# What is imported once the function is known, and before its first request.
LATER = (
    "functions_framework._cli", "functions_framework._http.gunicorn", "gunicorn.arbiter", "gunicorn.glogging", "gunicorn.workers.gthread",
    "concurrent.futures.thread", "encodings.idna",
)  # fmt: skip


def load(directory):
    os.chdir(directory)
    path = list(sys.path)
    sys.path[:0] = [directory] * 2  # the current directory, and PYTHONPATH
    for name in ("functions_framework", *LATER):
        importlib.import_module(name)
    sys.path[:] = path
    os.chdir("/")


def rehearse():
    """Has the framework load a function that is ours, and its server answer with it. What that changes is put back."""
    import logging
    import tempfile

    import functions_framework
    from functions_framework._http import gunicorn as server

    path, handler, timeout = list(sys.path), functions_framework.errorhandler, server.TIMEOUT_SECONDS
    try:
        answer(functions_framework, server)
    except Exception:
        pass  # another framework than those that we know: it serves as well without
    sys.path[:], functions_framework.errorhandler, server.TIMEOUT_SECONDS, tempfile.tempdir = path, handler, timeout, None
    sys.modules.pop(NAME, None)
    for name in ("gunicorn.error", "gunicorn.access"):
        logging.root.manager.loggerDict.pop(name, None)
    gc.collect()  # and out of the collector's sight with what is left
    gc.freeze()


def answer(framework, server):
    import socket

    from functions_framework import _cli
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers import gthread

    for _ in range(3):
        _cli._cli.make_context("warm", ["--target", NAME, "--source", WARM])
        application = server.GunicornApplication(framework.create_app(NAME, WARM, "http"), "127.0.0.1", 0, False)
        cfg, arbiter = application.cfg, Arbiter(application)
        worker = gthread.ThreadWorker(1, os.getpid(), [], application, 0, cfg, arbiter.log)
        worker.tmp.close()
        worker.wsgi = application.wsgi()
        for head in (b"GET / HTTP/1.1\r\n", b"POST /a?b=c HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n") * 4:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.sendall(head + b"Host: localhost\r\nConnection: close\r\n\r\n{}")
                worker.handle(gthread.TConn(cfg, theirs, ("127.0.0.1", 1), ("127.0.0.1", 2)))
