"""The Python agent: boots parked, is assigned a function, serves its invocations.

It is started before any user's code is known, with one end of a Unix stream
socketpair as descriptor 3; or for one function, with its environment, where that
only works at exec. ../DESIGN.md has the protocol. To a handler it is
what AWS's own client is: context, errors, logs, JSON and exits are the same.

It imports nothing at boot that a trivial handler does not need: http.client,
asyncio and even socket cost more to import than the rest of the boot together.
"""

import gc
import importlib
import json
import logging
import os
import site
import sys
import time
import traceback

FD = 3
API = b"/2018-06-01/runtime/"
NEXT = b"GET " + API + b"invocation/next HTTP/1.1\r\nHost: lambda\r\n\r\n"


class Fault(Exception):
    """A failure in the platform's words: its type is a Runtime.* name, not a class's."""

    def __init__(self, kind, message, trace=()):
        super().__init__(message)
        self.kind, self.message, self.trace = kind, message, list(trace)


# --- The connection -----------------------------------------------------------


class Connection:
    """An HTTP/1.1 client on FD, one request or one POST + GET at a time.

    Reads block: between invocations the process sits in read(2), which is what
    the freeze of a Lambda environment looks like to the code in it.
    """

    def __init__(self):
        self.buffer = b""

    def fill(self):
        data = os.read(FD, 65536)
        if not data:
            leave()
        self.buffer += data

    def take(self, n):
        if len(self.buffer) >= n:
            data, self.buffer = self.buffer[:n], self.buffer[n:]
            return data
        parts, have, self.buffer = [self.buffer], len(self.buffer), b""
        while have < n:
            data = os.read(FD, min(n - have, 1 << 20))
            if not data:
                leave()
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    def send(self, data):
        try:
            n = os.write(FD, data)
            if n < len(data):
                view = memoryview(data)
                while n < len(view):
                    n += os.write(FD, view[n:])
        except (BrokenPipeError, ConnectionResetError):
            leave()

    def receive(self):
        """Returns status, headers (names in lower case) and body."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self.fill()
        head, self.buffer = self.buffer[:end].decode("latin-1"), self.buffer[end + 4 :]
        lines = head.split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(lines[0][9:12]), headers, self.take(int(headers.get("content-length", 0)))

    def post(self, path, body, content_type, error_type=None, then=b""):
        head = b"POST " + API + path.encode() + b" HTTP/1.1\r\nHost: lambda\r\nContent-Type: " + content_type
        if error_type is not None:
            # A class may be called anything, a header may not hold everything.
            name = "".join(c if c.isprintable() else "?" for c in error_type)
            head += b"\r\nLambda-Runtime-Function-Error-Type: " + name.encode("ascii", "replace")
        self.send(b"%b\r\nContent-Length: %d\r\n\r\n%b%b" % (head, len(body), body, then))


# --- JSON, as simplejson in AWS's client writes it ----------------------------

SCALARS = frozenset((str, int, float, bool, type(None)))


def is_plain(value):
    """Says whether the standard encoder writes value just as simplejson does."""
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind is dict:
        for k in value:
            if type(k) is not str:
                return False
        value = value.values()
    elif kind is not list and kind is not tuple:
        return False
    for v in value:
        if type(v) not in SCALARS and not is_plain(v):
            return False
    return True


class Encoder:
    def __init__(self):
        # Before Python 3.12 AWS escapes whatever is not ASCII, since then it does not.
        version = os.environ.get("AWS_EXECUTION_ENV", "")[len("AWS_Lambda_python3.") :]
        ascii_only = not (version.isdigit() and int(version) >= 12)
        self.encoder = json.JSONEncoder(ensure_ascii=ascii_only, default=self.unknown)
        self.mark = None
        self.above = []  # ids of the containers being converted

    def encode(self, value):
        try:
            plain = is_plain(value)
        except RecursionError:
            plain = True  # circular or very deep: the encoder has the words for it
        if not plain:
            self.above.clear()
            value = self.convert(value)
        text = self.encoder.encode(value)
        if self.mark is not None:
            import re

            text = re.sub('"' + self.mark + '([^"]*)"', r"\1", text)
        return text

    def convert(self, value):
        """Returns a copy with named tuples as objects, bytes as text, decimals as marked strings."""
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, (str, int, float)) or value is None:
            return value
        if isinstance(value, tuple) and callable(getattr(value, "_asdict", None)):
            value = value._asdict()
        if not isinstance(value, (dict, list, tuple)):
            return self.decimal(value)
        if id(value) in self.above:
            raise ValueError("Circular reference detected")
        self.above.append(id(value))
        if isinstance(value, dict):
            copy = {k.decode() if isinstance(k, bytes) else k: self.convert(v) for k, v in value.items()}
        else:
            copy = [self.convert(v) for v in value]
        self.above.pop()
        return copy

    def decimal(self, value):
        # Whoever has a Decimal has the module: it is never imported for the question.
        module = sys.modules.get("decimal")
        if module is None or not isinstance(value, module.Decimal):
            return value
        if value.is_nan():
            return float("nan")
        if self.mark is None:
            self.mark = "decimal-" + os.urandom(16).hex() + ":"
        return self.mark + str(value)

    def unknown(self, value):
        raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def unmarshal(body, content_type):
    if content_type != "application/json":
        return body
    try:
        return json.loads(body)
    except Exception as e:
        raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % e)


def marshal(encoder, value):
    if isinstance(value, bytes):
        return value, b"application/unknown"
    try:
        text = encoder.encode(value)
    except Exception as e:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % e)
    return text, b"application/json"


# --- The context --------------------------------------------------------------


class Record:
    """An object of fixed fields that are None unless given."""

    __slots__ = ()

    def __init__(self, fields=None):
        for name in self.__slots__:
            setattr(self, name, fields.get(name) if fields else None)

    def __repr__(self):
        return show(self, self.__slots__)


def show(value, names):
    return "%s([%s])" % (type(value).__name__, ",".join("%s=%s" % (n, getattr(value, n)) for n in names))


class CognitoIdentity(Record):
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(Record):
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(Record):
    __slots__ = ("custom", "env", "client")


SHOWN = (
    "aws_request_id", "log_group_name", "log_stream_name", "function_name", "memory_limit_in_mb",
    "function_version", "invoked_function_arn", "client_context", "identity", "tenant_id",
)  # fmt: skip


class LambdaContext:
    def __init__(self, headers, client, cognito):
        env = os.environ.get
        self.aws_request_id = headers.get("lambda-runtime-aws-request-id")
        self.log_group_name = env("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = env("AWS_LAMBDA_LOG_STREAM_NAME")
        self.function_name = env("AWS_LAMBDA_FUNCTION_NAME")
        self.memory_limit_in_mb = env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.function_version = env("AWS_LAMBDA_FUNCTION_VERSION")
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self._w3c_fields = {}
        if isinstance(client, dict):
            trace = client.pop("w3c", None)
            if isinstance(trace, dict):
                names = ("traceparent", "tracestate", "baggage")
                self._w3c_fields = {n: trace[n] for n in names if isinstance(trace.get(n), str)}
        self.client_context = None
        if client is not None:
            self.client_context = ClientContext(client)
            if self.client_context.client is not None:
                self.client_context.client = Client(self.client_context.client)
        self.identity = CognitoIdentity()
        if cognito is not None:
            self.identity.cognito_identity_id = cognito.get("cognitoIdentityId")
            self.identity.cognito_identity_pool_id = cognito.get("cognitoIdentityPoolId")
        self._epoch_deadline_time_in_ms = int(headers.get("lambda-runtime-deadline-ms", 0))

    def get_remaining_time_in_millis(self):
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def log(self, msg):
        sys.stdout.write(str(msg))

    def w3c(self):
        return dict(self._w3c_fields)

    def __repr__(self):
        return show(self, SHOWN)


def new_context(headers):
    given = []
    for header, name in (("client-context", "Client Context"), ("cognito-identity", "Cognito Identity")):
        text = headers.get("lambda-runtime-" + header)
        try:
            given.append(json.loads(text) if text else None)
        except Exception as e:
            raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, e))
    return LambdaContext(headers, *given)


def leave():
    """Ends the process without running anything of the user's: the server is gone, or is done with us."""
    flush()
    os._exit(0)


# --- Logs ---------------------------------------------------------------------


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # the handler closed or replaced it; its loss


class Logger(logging.Handler):
    """Writes records to standard output with the id of the invocation under way."""

    def __init__(self):
        super().__init__()
        self.request_id, self.tenant_id = "", None

    def emit(self, record):
        sys.stdout.write(self.format(record))  # a record that cannot be formatted is the caller's error, as on AWS

    def filter(self, record):
        record.aws_request_id, record.tenant_id = self.request_id, self.tenant_id
        return super().filter(record)


STANDARD_FIELDS = frozenset(
    "name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName created msecs "
    "relativeCreated thread threadName processName process taskName aws_request_id tenant_id".split()
)


class JSONFormatter(logging.Formatter):
    def __init__(self):
        super().__init__(datefmt="%Y-%m-%dT%H:%M:%SZ")
        self.encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    def format(self, record):
        record.levelno = min(50, max(0, record.levelno)) // 10 * 10
        record.levelname = logging.getLevelName(record.levelno)
        whole = isinstance(record.msg, dict) and not record.args
        line = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.msg if whole else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            kind, value, tb = record.exc_info
            line["stackTrace"] = traceback.format_tb(tb)
            line["errorType"] = kind.__name__ if kind else None
            line["errorMessage"] = str(value)
        line["requestId"] = record.aws_request_id
        if record.exc_info:
            line["location"] = "%s:%s:%s" % (record.pathname, record.funcName, record.lineno)
        if record.tenant_id is not None:
            line["tenantId"] = record.tenant_id
        for name, value in record.__dict__.items():
            if name not in STANDARD_FIELDS and name not in line:
                line[name] = value
        return self.encode({k: v for k, v in line.items() if v is not None}) + "\n"


def set_up_logging(json_format):
    logging.Formatter.converter = time.gmtime
    logger = Logger()
    if json_format:
        logger.setFormatter(JSONFormatter())
    else:
        text = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
        logger.setFormatter(logging.Formatter(text, "%Y-%m-%dT%H:%M:%S"))
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = "DEBUG" if level == "TRACE" else level
    if isinstance(logging.getLevelName(level), int):
        logging.root.setLevel(level)
    logging.root.addHandler(logger)
    return logger


# --- Errors -------------------------------------------------------------------


def error_of(exception, request_id=""):
    """Returns the error document of an exception: AWS's four fields."""
    if isinstance(exception, Fault):
        message, kind, trace = exception.message, exception.kind, exception.trace
    else:
        frames = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(exception.__traceback__)]
        # Our own frames on top are no news to the author, unless they are all there is.
        theirs = next((i for i, f in enumerate(frames) if f[0] != __file__), 0)
        message, kind, trace = str(exception), type(exception).__name__, traceback.format_list(frames[theirs:])
    return {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": trace}


def log_error(error, encoder):
    """Prints the error as one line of the log: '\\r' is a line break inside it."""
    if encoder is not None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        sys.stdout.write(encoder.encode({"timestamp": stamp, "level": "ERROR", **error}) + "\n")
        return
    head = "[ERROR] " + error["errorType"]
    if error["errorMessage"]:
        head += ": " + error["errorMessage"]
    lines = [head, "Traceback (most recent call last):"]
    for entry in error["stackTrace"]:
        for line in entry.splitlines() or [""]:
            text = line.lstrip(" ")  # indented by no-break spaces, which log viewers keep
            lines.append("\u00a0" * (len(line) - len(text)) + text)
    sys.stdout.write("\r".join(lines) + "\n")


# --- Loading and serving ------------------------------------------------------


def load(handler):
    module_name, dot, name = handler.rpartition(".")
    if not dot:
        text = "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % handler
        raise Fault("Runtime.MalformedHandlerName", text)
    try:
        if module_name.split(".")[0] in sys.builtin_module_names:
            text = "Cannot use built-in module %s as a handler module" % module_name
            raise Fault("Runtime.BuiltInModuleConflict", text)
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, e))
    except SyntaxError as e:
        where = '  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, e), [where])
    try:
        handler = getattr(module, name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (name, module_name))
    if not callable(handler):
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' of module '%s' is not a function" % (name, module_name))
    return handler


def serve(connection, handler, logger, encoder, log_encoder):
    connection.send(NEXT)
    owed = 0  # answers to POSTs that the server gives together with the next event
    while True:
        for _ in range(owed):
            connection.receive()  # 202; or 413, which the server has already told the caller
        status, headers, body = connection.receive()
        if status != 200:
            sys.exit("lambda: the next invocation was refused with status %d" % status)
        request_id = logger.request_id = headers["lambda-runtime-aws-request-id"]
        logger.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        trace = headers.get("lambda-runtime-trace-id")
        if trace is not None:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        else:
            os.environ.pop("_X_AMZN_TRACE_ID", None)

        path, error = "invocation/" + request_id, None
        try:
            context = new_context(headers)
            event = unmarshal(body, headers.get("content-type"))
            result, content_type = marshal(encoder, handler(event, context))
        except Exception as e:  # SystemExit and KeyboardInterrupt end the process, as on AWS
            error = error_of(e, request_id)
        if error is not None:
            log_error(error, log_encoder)
        flush()
        if error is None:
            # Text that UTF-8 cannot hold, a lone surrogate, ends the process, as on AWS.
            result = result if isinstance(result, bytes) else result.encode()
            connection.post(path + "/response", result, content_type, then=NEXT)
        else:
            document = encoder.encode(error).encode()
            connection.post(path + "/error", document, b"application/json", error["errorType"], then=NEXT)
        owed = 1
        # What one invocation leaves behind must not wait for the next to go.
        context = event = result = error = body = None


def assign(connection):
    """Waits for the assignment and makes the process what it says."""
    task = json.loads(connection.take(int.from_bytes(connection.take(4), "big")))
    if task["env"] is None:  # booted with it; a wrapper may have changed it, the handler too
        task["handler"] = os.environ.get("_HANDLER", "")
        sys.path += filter(None, [task.get("packages")])
    else:
        os.environ.clear()  # through putenv, so that children inherit the same
        os.environ.update(task["env"])
    time.tzset()
    os.chdir(task["task"])
    paths = [task["task"]]
    if task["opt"]:
        version = "python%d.%d" % sys.version_info[:2]
        paths += [task["opt"] + "/python/lib/" + version + "/site-packages", task["opt"] + "/python"]
    paths += filter(None, os.environ.get("PYTHONPATH", "").split(":"))
    sys.path[:0] = paths
    return task


class Rehearsed(BaseException):
    """The end of the rehearsal: no handler's `except Exception` is in its way, and nobody else sees it."""


class Rehearsal(Connection):
    """A connection that is not there. It has an assignment and one event, and takes whatever is said to it."""

    def __init__(self, here):
        super().__init__()
        env = {"TZ": ":UTC", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"}
        task = json.dumps({"env": env, "handler": "warm.handler", "task": here, "opt": "/opt", "concurrency": 1}).encode()
        event = json.dumps({"body": "\u00e9\n", "list": [1, 2.5, None, True], "nested": {"a": {}}}).encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 0\r\n"
            "Lambda-Runtime-Deadline-Ms: 1\r\nLambda-Runtime-Trace-Id: Root=1\r\nContent-Length: %d\r\n\r\n" % len(event)
        )
        self.buffer = len(task).to_bytes(4, "big") + task + head.encode() + event

    def fill(self):
        raise Rehearsed

    def send(self, data):
        pass


def boot_late():
    """Makes a process that was booted for a function, with its environment, what it would be if it had been parked.

    There is no rehearsal: hooks that the environment brings are to see the function and nothing before it.
    """
    add_builtins()
    site.execsitecustomize()  # which -S has kept from running: tools find their way in by it
    # The interpreter has put them there: the agent's own directory, which is nobody's to import from, and
    # PYTHONPATH, which has another place.
    known = [os.path.dirname(os.path.abspath(__file__))] + os.environ.get("PYTHONPATH", "").split(":")
    sys.path[:] = [p for p in sys.path if p not in known]


def add_builtins():
    """Makes what -S only keeps from being made: without it there is no exit() and no help()."""
    site.setquit()
    site.setcopyright()
    site.sethelper()


def warm():
    """Goes once through all that a function will use, and takes it out of the collector's sight.

    Whatever runs for the first time in a process is slow: pages of the interpreter that nobody has
    touched, its compiler, its caches. The rehearsal is the real thing with warm.py as the function;
    what it changes is put back, so that a function finds a process in which none ever ran.
    """
    add_builtins()
    env, cwd, path, importers = dict(os.environ), os.getcwd(), list(sys.path), set(sys.path_importer_cache)
    try:
        run(Rehearsal(os.path.dirname(os.path.abspath(__file__))))
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
    gc.collect()
    gc.freeze()


def run(connection):
    """Is assigned a function and serves it."""
    task = assign(connection)
    encoder = Encoder()
    json_format = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    log_encoder = encoder if json_format else None
    logger = set_up_logging(json_format)
    try:
        handler = load(task["handler"])
    except Exception as e:
        error = error_of(e)
        log_error(error, log_encoder)
        flush()
        connection.post("init/error", encoder.encode(error).encode(), b"application/json", error["errorType"])
        connection.receive()
        sys.exit(1)
    serve(connection, handler, logger, encoder, log_encoder)


def main():
    os.set_inheritable(FD, False)  # children of the handler have no business here
    sys.path += sys.argv[1:]  # the runtime's packages: last, so that a bundled one wins
    del sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    sys.stdout.reconfigure(errors="strict")
    if "_HANDLER" in os.environ:
        boot_late()
    else:
        warm()
    connection = Connection()
    connection.send(b"LAMBENT/1\n")
    run(connection)


if __name__ == "__main__":
    main()
