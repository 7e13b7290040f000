"""A function that tells all that it can find out about the process that it is in: the same in each, however that was started."""
import gc
import importlib.util
import locale
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings

import click
import flask
import functions_framework
import werkzeug

AT_LOAD = {"stack": [(f.filename, f.name) for f in traceback.extract_stack()], "path": list(sys.path), "argv": list(sys.argv), "threads": len(threading.enumerate())}


def describe(module):
    spec = getattr(module, "__spec__", None)
    where = [getattr(module, "__file__", None), [str(p) for p in getattr(module, "__path__", ())], getattr(module, "__package__", None)]
    return where + ([spec.name, spec.origin, spec.cached, type(spec.loader).__name__] if spec else [])


def descriptors():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            to = re.sub(r"\d+", "N", re.sub("wgunicorn-.*? ", "X ", os.readlink("/proc/self/fd/" + fd)))
            if not to.startswith("socket:"):  # what is executed may have been given one more
                found.append(to)
        except OSError:
            pass
    return sorted(found)


def identity(request):
    if request.path == "/crash":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(10)
    main = sys.modules["__main__"]
    return {
        "sys": {
            "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "flags": str(sys.flags), "executable": sys.executable, "prefix": sys.prefix,
            "meta_path": [str(f).split(" at ")[0] for f in sys.meta_path], "hooks": len(sys.path_hooks), "excepthook": sys.excepthook is sys.__excepthook__,
            "out": [sys.stdout.encoding, sys.stdout.errors, sys.stdout.line_buffering, sys.stdout.write_through, sys.stderr.line_buffering],
            "limit": sys.getrecursionlimit(), "interval": sys.getswitchinterval(), "trace": [sys.gettrace(), sys.getprofile()],
        },
        "main": {"names": sorted(vars(main)), "describe": describe(main), "doc": main.__doc__},
        "modules": {name: describe(m) for name, m in sorted(sys.modules.items())},
        "at_load": AT_LOAD,
        "same": [importlib.import_module(n) is sys.modules[n] for n in ("flask", "werkzeug", "click", "gunicorn", "jinja2")],
        "framework": [functions_framework.errorhandler.__self__ is flask.current_app._get_current_object(), sorted(vars(functions_framework)), flask.current_app.name, flask.current_app.root_path,
                      flask.current_app.template_folder, type(request).__mro__[1].__module__, request.get_data(as_text=True)],
        "env": sorted(n for n in os.environ if n not in ("MARK", "PYTHONSTARTUP")), "putenv": os.popen("env | cut -d= -f1 | grep -v -e '^_$' -e MARK -e PYTHONSTARTUP -e OLDPWD -e SHLVL | sort").read().split(),
        "cwd": os.getcwd(), "umask": [os.umask(0o022), os.umask(0o022)], "tz": time.tzname, "locale": locale.setlocale(locale.LC_ALL),
        "signals": {str(s): str(signal.getsignal(s)).split(" at ")[0] for s in signal.valid_signals()},
        "loggers": {n: [str(h) for h in getattr(l, "handlers", ())] for n, l in logging.root.manager.loggerDict.items()}, "root": [str(h) for h in logging.root.handlers],
        "warnings": len(warnings.filters), "gc": [gc.isenabled(), gc.get_threshold()], "descriptors": descriptors(), "task": sorted(os.listdir("/var/task")),
        "registry": str(functions_framework._function_registry.REGISTRY_MAP), "server": dict(vars(sys.modules["functions_framework._http.gunicorn"]))["TIMEOUT_SECONDS"],
    }
