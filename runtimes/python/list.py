"""Prints what ahead.py loads, as internal/preload reads it. It does the same, and watches. Its argument is the directory with the framework."""

import importlib.metadata
import json
import os
import sys

directory = sys.argv[1]
del sys.path[0]  # our own directory
files, absent, env = set(), {"sitecustomize", "usercustomize"}, {}


def inside(path):
    return isinstance(path, str) and path.startswith(directory + "/") and "/__pycache__/" not in path


class Environ(os._Environ):
    """Notes what is asked for."""

    def __getitem__(self, name):
        try:
            value = env[name] = super().__getitem__(name)
        except KeyError:
            env[name] = None
            raise
        return value


class Nothing:
    """Comes last on sys.meta_path: what it is asked for is nowhere."""

    def find_spec(self, name, path=None, target=None):
        last = name.rpartition(".")[2]
        absent.update(os.path.join(p, last)[len(directory) + 1 :] for p in path or () if inside(p + "/"))
        if path is None:
            absent.add(name)


def note_open(event, args):
    if event == "open" and inside(args[0]):
        files.add(args[0])


sys.addaudithook(note_open)
sys.meta_path.append(Nothing())
os.environ.__class__ = Environ

HERE = os.path.dirname(__file__)
with open(HERE + "/ahead.py", "rb") as f:
    ahead = {"__name__": "ahead", "__file__": f.name}
    exec(compile(f.read(), f.name, "exec"), ahead)
ahead["load"](directory)
asked = dict(env)  # what is asked for later is asked for again
ahead["rehearse"]()

shared = set()
for name, m in list(sys.modules.items()):
    spec = getattr(m, "__spec__", None)
    if spec is None:
        continue
    if inside(spec.origin):
        files.add(spec.origin)
    elif spec.has_location and "." not in name:
        absent.add(name)
    for p in spec.submodule_search_locations or () if not spec.has_location else ():
        if inside(p + "/"):  # a namespace
            shared.add(p)
sys.path.insert(0, directory)
distribution = importlib.metadata.distribution("functions-framework")
cut = len(directory) + 1
json.dump(
    {
        "name": "%s %s" % (distribution.metadata["Name"], distribution.version),
        "files": sorted(f[cut:] for f in files if os.path.isfile(f)),
        "shared": sorted(s[cut:] for s in shared),
        "absent": sorted(absent),
        "env": asked,
    },
    sys.stdout,
)
