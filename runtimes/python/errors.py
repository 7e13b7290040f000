"""Failures of a function: the document that tells of one, and its lines in the log."""

import sys
import time
import traceback


def error_of(exception, request_id=""):
    """Returns the error document of an exception: AWS's four fields."""
    if isinstance(exception, agent.Fault):
        message, kind, trace = exception.message, exception.kind, exception.trace
    else:
        frames = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(exception.__traceback__)]
        # Our own frames on top are no news to the author, unless they are all there is.
        theirs = next((i for i, f in enumerate(frames) if f[0] != agent.__file__), 0)
        message, kind, trace = str(exception), type(exception).__name__, traceback.format_list(frames[theirs:])
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace}


def log_error(error, encoder):
    """Prints the error as one line of the log: '\\r' is a line break inside it."""
    if encoder is not None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        sys.stdout.write(encoder.encode({"timestamp": stamp, "level": "ERROR", **error}) + "\n")
        return
    head = "[ERROR] "
    if agent.under_way.several:  # as loggers have it: whose line it is only its text tells
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        head = "[ERROR]\t%s.%03dZ\t%s\t" % (stamp, time.time() % 1 * 1000, error["requestId"])
    head += error["errorType"]
    if error["errorMessage"]:
        head += ": " + error["errorMessage"]
    lines = [head, "Traceback (most recent call last):"]
    for entry in error["stackTrace"]:
        for line in entry.splitlines() or [""]:
            text = line.lstrip(" ")  # indented by no-break spaces, which log viewers keep
            lines.append("\u00a0" * (len(line) - len(text)) + text)
    sys.stdout.write("\r".join(lines) + "\n")
