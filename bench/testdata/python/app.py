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


def spin(event, context):
    import time

    end = time.monotonic() + 0.25
    while time.monotonic() < end:
        pass


def rows(event, context):
    return {"batchItemFailures": []}
