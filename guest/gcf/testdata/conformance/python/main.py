"""Functions as the conformance suite of Google's frameworks has them: each writes down what it was given."""
import json
import os
import tempfile
import time

import functions_framework

FILE = os.path.join(tempfile.gettempdir(), "function_output.json")


def write(value):
    text = json.dumps(value)
    with open(FILE, "w") as f:
        f.write(text)
    print("function_output.json " + text)


@functions_framework.http
def http(request):
    if request.path == "/output":
        with open(FILE) as f:
            return f.read()
    write(request.get_json())
    return "OK"


@functions_framework.http
def concurrent(request):
    time.sleep(1)
    return "ok"


@functions_framework.cloud_event
def concurrentevent(e):
    time.sleep(1)


def concurrentlegacyevent(data, context):
    time.sleep(1)


class Message:
    def __init__(self, value):
        self.value = value

    @staticmethod
    def from_dict(value):
        return Message(value)

    def to_dict(self):
        return {"payload": self.value}


@functions_framework.typed
def typed(message: Message):
    return message


@functions_framework.cloud_event
def cloudevent(e):
    write({**e.get_attributes(), "data": e.get_data()})


def legacyevent(data, context):
    write({"data": data, "context": {"eventId": context.event_id, "timestamp": context.timestamp, "eventType": context.event_type, "resource": context.resource}})
