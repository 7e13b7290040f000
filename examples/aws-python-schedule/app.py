"""Runs by the clock: EventBridge's scheduled event, as on AWS."""


def handler(event, context):
    print(f"due at {event['time']}, as {event['resources'][0].rsplit('/', 1)[-1]}")
