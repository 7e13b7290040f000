"""The function of the guest suite: does what the event says."""
import ctypes
import json
import logging
import os
import signal
import sys
import time

if os.environ.get("FAIL_INIT"):
    raise RuntimeError("no start today")


class OutOfCheese(Exception):
    pass


def handler(event, context):
    do = event.get("do", "http") if isinstance(event, dict) else "echo"
    if do == "echo":
        return event.get("value")
    if do == "context":
        return {
            "requestId": context.aws_request_id,
            "name": context.function_name,
            "version": context.function_version,
            "arn": context.invoked_function_arn,
            "memoryMB": int(context.memory_limit_in_mb),
            "logGroup": context.log_group_name,
            "remainingMS": context.get_remaining_time_in_millis(),
        }
    if do == "env":
        return {k: os.environ.get(k) for k in event["names"]}
    if do == "error":
        raise ValueError("that went wrong")
    if do == "custom":
        raise OutOfCheese("redo from start")
    if do == "sleep":
        print("sleeping", flush=True)
        time.sleep(event["ms"] / 1000)
        return "slept"
    if do == "exit":
        os._exit(event["code"])
    if do == "signal":
        os.kill(os.getpid(), signal.SIGKILL)
    if do == "hog":
        keep = []
        while True:
            keep.append(bytearray(8 << 20))
            time.sleep(0.01)
    if do == "grow":
        return "x" * event["bytes"]
    if do == "size":
        return {"bytes": len(event["value"])}
    if do == "log":
        print("to stdout: grüße")
        print("to stderr", file=sys.stderr)
        return "logged"
    if do == "tell":
        for i in range(event["n"]):
            logging.warning("told %d", i)
            time.sleep(event["ms"] / 1000)
        return "told"
    if do == "http":
        return {
            "statusCode": 201,
            "headers": {"x-method": event["requestContext"]["http"]["method"], "content-type": "application/octet-stream"},
            "cookies": ["a=1", "b=2"],
            "body": event["body"],
            "isBase64Encoded": True,
        }
    raise ValueError("do what? " + json.dumps(event))
