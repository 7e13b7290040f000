# The function of the rehearsal, with what most handlers need of the compiler.
import collections.abc as _abc


def handler(event, context, *args, **kwargs):
    try:
        return {"statusCode": 200, "body": f"{event!r:.10}", "n": [x for x in range(3)], **kwargs}
    except (KeyError, _abc.Hashable) as e:
        raise RuntimeError("unreachable") from e


class Thing:
    def __init__(self, name="x"):
        self.name = name
