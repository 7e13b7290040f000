"""Compiles the modules below a directory, and prints a tar file of what came out.

It runs in the interpreter that is to import them. The compiled files are believed
whatever the time of the source: neither of them changes any more.
"""

import importlib.util
import io
import marshal
import os
import sys
import tarfile

out = os.fdopen(os.dup(1), "wb")
nowhere = os.open(os.devnull, os.O_WRONLY)
os.dup2(nowhere, 1)
os.dup2(nowhere, 2)
top = sys.argv[1]
with tarfile.open(fileobj=out, mode="w|") as tar:
    for folder, folders, names in os.walk(top):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not name.endswith(".py"):
                continue
            try:
                with open(path, "rb") as f:
                    source = f.read()
                code = compile(source, path, "exec", dont_inherit=True)
            except Exception:
                continue  # a template, or of another version
            unchecked = (1).to_bytes(4, "little")
            data = importlib.util.MAGIC_NUMBER + unchecked + importlib.util.source_hash(source) + marshal.dumps(code)
            entry = tarfile.TarInfo(os.path.relpath(importlib.util.cache_from_source(path), top))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
out.close()
