"""Orders that fail: every way in which a function can let its caller down."""

import os
import sys
import time


class OutOfStock(Exception):
    """A failure of the function's own; its class name is the error type."""

    def __init__(self, item):
        super().__init__(f"{item} is out of stock")
        self.item = item


def handler(event, context):
    event = event or {}
    query = event.get("queryStringParameters") or {}

    def param(key, default):
        return event.get(key) or query.get(key) or default

    case = param("case", "ok")
    if case == "error":
        raise OutOfStock(param("item", "coffee"))
    if case == "exit":
        sys.exit(int(param("code", 1)))
    if case == "slow":
        time.sleep(float(param("seconds", os.environ.get("SLOW_SECONDS", "2"))))
    elif case == "memory":
        megabytes = int(param("megabytes", 1024))
        hoard = [bytearray(b"x" * 1_000_000) for _ in range(megabytes)]
        return {"case": case, "megabytes": len(hoard)}
    return {"case": case, "remaining_ms": context.get_remaining_time_in_millis()}
