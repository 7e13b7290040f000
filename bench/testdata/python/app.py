def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "text/plain"}, "body": event["body"]}


def nap(event, context):
    import time

    time.sleep(0.1)
    return event["body"]


def short_nap(event, context):
    import time

    time.sleep(0.01)
    return event["body"]


def long_nap(event, context):
    import time

    time.sleep(2.5)


def spin(event, context):
    import time

    end = time.monotonic() + 0.25
    while time.monotonic() < end:
        pass


def rows(event, context):
    return {"batchItemFailures": []}


AGES = []


def ages(event, context):
    """Takes rows whose body is when they were sent, in seconds; and says how long that was ago, of all since it last did."""
    import time

    now = time.time()
    if event is not None:
        AGES.extend(now - float(r["data"]["new"]["body"]) for r in event["Records"])
        return None
    all = sorted(AGES)
    AGES.clear()
    return {"Rows": len(all), "P50": all[len(all) // 2], "P99": all[len(all) * 99 // 100]} if all else None
