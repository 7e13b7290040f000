"""The Python agent: boots parked, is assigned a function, serves its invocations.

It is started before any user's code is known, with one end of a Unix stream
socketpair as descriptor 3; or for one function, with its environment, where that
only works at exec. ../DESIGN.md has the protocol. To a handler it is
what AWS's own client is: context, errors, logs, JSON and exits are the same.

boot.py runs this file, in its own namespace: HERE and code_of come from there.

Here is what a trivial handler needs, and nothing is imported that it does not:
json and logging take longer than the rest of the boot together. What they are
for is in parts of the agent, which are loaded when they are wanted, or while
the agent waits for its assignment.
"""

import importlib
import os
import site
import sys
import time
from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

FD = 3
API = b"/2018-06-01/runtime/"
NEXT = b"GET " + API + b"invocation/next HTTP/1.1\r\nHost: lambda\r\n\r\n"

ME = sys.modules[__name__]
PARTS = {}


def part(name):
    """Returns a module of the agent's. It is in no list of modules, where a function might find it for its own."""
    if name not in PARTS:
        module = type(sys)("lambent_" + name)
        module.__file__, module.agent = HERE + "/" + name + ".py", ME
        exec(code_of(name), module.__dict__)
        PARTS[name] = module
    return PARTS[name]


SPARE = []  # a descriptor that is kept for code that takes all others: its failure, and lines of its source, are in files


def failures():
    """Returns the part for failures."""
    while SPARE:
        try:
            os.close(SPARE.pop())
        except OSError:
            pass  # the code closed it
    return part("errors")


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


# --- JSON ---------------------------------------------------------------------


class Plain:
    """How json.loads has the scanner read when it is told nothing else."""

    strict, object_hook, object_pairs_hook, parse_float, parse_int = True, None, None, float, int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__


scan = make_scanner(Plain)


def decode(body):
    """json.loads, by the scanner that it has in C; the module is asked about what that does not read to its end."""
    try:
        text = (body if isinstance(body, str) else body.decode()).strip(" \t\n\r")
        value, end = scan(text, 0)
        if end == len(text):
            return value
    except Exception:
        pass  # it has the words for it
    import json

    return json.loads(body)


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
    """Writes JSON as simplejson in AWS's client does: json.dumps, by the encoder that it has in C, and more values."""

    def __init__(self, execution_env):
        # Before Python 3.12 AWS escapes whatever is not ASCII, since then it does not.
        version = execution_env[len("AWS_Lambda_python3.") :]
        self.string = encode_basestring if version.isdigit() and int(version) >= 12 else encode_basestring_ascii
        self.converter = None

    def encode(self, value):
        try:
            plain = is_plain(value)
        except RecursionError:
            plain = True  # circular or very deep: the encoder has the words for it
        if plain:
            return self.text(value)
        if self.converter is None:
            self.converter = part("values").Converter()
        return self.converter.unmark(self.text(self.converter.copy(value)))

    def text(self, value):
        write = make_encoder({}, self.unknown, self.string, None, ": ", ", ", False, False, True)
        return "".join(write(value, 0))

    def unknown(self, value):
        raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def unmarshal(body, content_type):
    if content_type != "application/json":
        return body
    try:
        return decode(body)
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
            given.append(decode(text) if text else None)
        except Exception as e:
            raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, e))
    return LambdaContext(headers, *given)


# --- Logs ---------------------------------------------------------------------


class UnderWay:
    """The invocation under way, of which log records tell."""

    request_id, tenant_id = "", None
    several = False  # there may be more, in other processes


under_way = UnderWay()


class WhenImported:
    """Waits for a module on sys.meta_path, and calls somebody when a function has imported it."""

    def __init__(self, name, then):
        self.name, self.then = name, then

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib._bootstrap._find_spec(name, path, target)
        if spec is not None:
            load = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (load(module), self.then())
        return spec


# What AWS's client has imported before it loads a function, which we leave for later: whichever comes
# first, the rehearsal or the function, it is never a file of the function's that happens to be called so.
STANDARD = frozenset(
    "_weakrefset collections contextlib copyreg enum functools json keyword linecache logging operator re reprlib "
    "sre_compile sre_constants sre_parse string textwrap threading token tokenize traceback types weakref".split()
)


class FindStandard:
    """Finds those on sys.meta_path where the interpreter has them."""

    def __init__(self):
        self.path = list(sys.path)

    def find_spec(self, name, path=None, target=None):
        if path is None and name in STANDARD:
            return importlib._bootstrap_external.PathFinder.find_spec(name, self.path)


def set_up_logging(json_format):
    def set_up():
        part("logs").set_up(json_format)

    if "logging" in sys.modules:
        set_up()
    else:
        sys.meta_path.insert(0, WhenImported("logging", set_up))


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # the handler closed or replaced it; its loss


def leave():
    """Ends the process without running anything of the user's: the server is gone, or is done with us."""
    flush()
    os._exit(0)


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


def serve(connection, handler, encoder, log_encoder):
    connection.send(NEXT)
    owed = 0  # answers to POSTs that the server gives together with the next event
    while True:
        for _ in range(owed):
            connection.receive()  # 202; or 413, which the server has already told the caller
        status, headers, body = connection.receive()
        if status != 200:
            sys.exit("lambda: the next invocation was refused with status %d" % status)
        request_id = under_way.request_id = headers["lambda-runtime-aws-request-id"]
        under_way.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
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
            error = failures().error_of(e, request_id)
        if error is not None:
            failures().log_error(error, log_encoder)
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


def wait(connection):
    """Waits for the assignment and returns it. Meanwhile it rehearses, if it is told to."""
    while (length := int.from_bytes(connection.take(4), "big")) == 0:
        rehearse(connection)
    return decode(connection.take(length))


def rehearse(connection):
    """Goes through the rehearsal, or as much of it as there is time for until the next thing to be read."""
    os.set_blocking(FD, False)
    try:
        for _ in part("rehearsal").steps():
            try:
                connection.fill()
                break
            except BlockingIOError:
                pass
    except Exception:
        pass  # an interpreter that lacks something may have enough for a function
    os.set_blocking(FD, True)


def replace_environment(env):
    """Clears os.environ and updates it, through putenv so that children inherit the same; by its own two methods that takes a tenth of a cold start."""
    data = os.environ._data
    for name in data:
        os.unsetenv(name)
    data.clear()
    for name, value in env.items():
        name, value = os.environ.encodekey(name), os.environ.encodevalue(value)
        os.putenv(name, value)
        data[name] = value


def assign(connection):
    """Waits for the assignment and makes the process what it says, as far as that takes no code."""
    task = wait(connection)
    if task["env"] is None:  # booted with it; a wrapper may have changed it, the handler too
        task["handler"] = os.environ.get("_HANDLER", "")
        sys.path += filter(None, [task.get("packages")])
    else:
        replace_environment(task["env"])
    time.tzset()
    paths = [task["task"]]
    if task["opt"]:
        version = "python%d.%d" % sys.version_info[:2]
        paths += [task["opt"] + "/python/lib/" + version + "/site-packages", task["opt"] + "/python"]
    paths += filter(None, os.environ.get("PYTHONPATH", "").split(":"))
    sys.path[:0] = paths
    return task


def run(connection):
    """Is assigned a function and serves it."""
    task = assign(connection)
    encoder = Encoder(os.environ.get("AWS_EXECUTION_ENV", ""))
    json_format = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    log_encoder = encoder if json_format else None
    set_up_logging(json_format)
    connection.take(1)  # the code is in place
    os.chdir(task["task"])
    if task.get("concurrency", 1) > 1:
        part("lanes").divide(connection)
    if not SPARE:
        SPARE.append(os.dup(FD))
    try:
        handler = load(task["handler"])
    except Exception as e:
        error = failures().error_of(e)
        failures().log_error(error, log_encoder)
        flush()
        connection.post("init/error", encoder.encode(error).encode(), b"application/json", error["errorType"])
        connection.receive()
        sys.exit(1)
    serve(connection, handler, encoder, log_encoder)


def boot_late():
    """Makes a process that was booted for a function, with its environment, what it would be if it had been parked."""
    site.execsitecustomize()  # which -S has kept from running: tools find their way in by it
    # The interpreter has put them there: the agent's own directory, which is nobody's to import from, and
    # PYTHONPATH, which has another place.
    known = [HERE] + os.environ.get("PYTHONPATH", "").split(":")
    sys.path[:] = [p for p in sys.path if p not in known]


def main():
    site.setquit()  # which -S only keeps from being made: without it there is no exit() and no help()
    site.setcopyright()
    site.sethelper()
    os.set_inheritable(FD, False)  # children of the handler have no business here
    sys.path += sys.argv[1:]  # the runtime's packages: last, so that a bundled one wins
    del sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    sys.stdout.reconfigure(errors="strict")
    if "_HANDLER" in os.environ:
        boot_late()
    sys.meta_path.insert(0, FindStandard())
    connection = Connection()
    connection.send(b"LAMBENT/1\n")
    run(connection)


if __name__ == "__main__":
    main()
