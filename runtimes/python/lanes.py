"""An agent that is to serve several invocations at a time: a process for each, as AWS's own client has it.

Code for Lambda counts on being the only one in its process: module globals, the working directory,
signals, os.environ with the trace's id. So it is, in each of these, and each loads it for itself, so that
no connection that it opens then is shared. They are made as they are needed: whoever has the other end of
descriptor 3 asks for one more when more invocations are there than processes.
"""

import _signal
import os


def divide(connection):
    """Returns in each process that is to serve, where descriptor 3 is a connection of its own from then on."""
    lanes = set()

    def ended(*_):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in lanes:
                end_as(status)

    _signal.signal(_signal.SIGCHLD, ended)
    while True:
        agent.flush()
        _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGCHLD])  # until it is known who it is
        pid = os.fork()
        if pid == 0:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        else:
            lanes.add(pid)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGCHLD])
        if pid == 0:
            connect(connection)
            return
        connection.take(1)  # another is asked for


def end_as(status):
    """Ends as one of the processes has: the others' invocations fail with it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != _signal.SIGKILL:
            _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)
    os._exit(os.WEXITSTATUS(status))


def connect(connection):
    import _socket

    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].rpartition(":")
    lane = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    lane.connect((host, int(port)))
    lane.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    os.dup2(lane.fileno(), agent.FD, inheritable=False)
    lane.close()
    connection.buffer = b""
    agent.under_way.several = True
