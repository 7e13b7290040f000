# Takes as much as there is of something, for tests of what becomes of the others.
import os
import signal


def nothing():
    """What a neighbour takes that only is called as often."""


def forks():
    while True:
        if os.fork() == 0:
            signal.pause()


def memory():
    kept = []
    while True:
        kept.append(bytearray(b"x" * (1 << 20)))


def child():
    """Memory in a child, whose end the code does not care about."""
    if os.fork() == 0:
        memory()
    os.wait()
    return "as if nothing had been"


def disk():
    with open("/tmp/bomb", "wb", buffering=0) as f:
        while True:
            f.write(bytes(1 << 20))


def files():
    n = 0
    while True:
        os.close(os.open("/tmp/%d" % n, os.O_CREAT))
        n += 1


def descriptors():
    while True:
        os.dup(0)


def log():
    line = b"x" * 999 + b"\n"
    while True:
        os.write(1, line)


def handler(event, context):
    return {f.__name__: f for f in (nothing, forks, memory, child, disk, files, descriptors, log)}[event]()
