"""Functions of the guest's tests, as users of Google's framework write them."""
import json
import os
import time

import functions_framework


@functions_framework.http
def web(request):
    if request.path == "/env":
        return dict(os.environ)
    if request.path == "/sleep":
        time.sleep(float(request.args["ms"]) / 1000)
        return {"pid": os.getpid()}
    if request.path == "/stream":
        def parts():
            for i in range(3):
                if i:
                    time.sleep(0.3)
                yield f"part {i}\n"
        return parts(), 200, {"Content-Type": "text/plain"}
    if request.path == "/throw":
        raise ValueError("out of cheese")
    return {"method": request.method, "path": request.path, "headers": dict(request.headers), "body": request.get_data(as_text=True)}, 201


@functions_framework.cloud_event
def event(e):
    print("event " + json.dumps({"id": e["id"], "source": e["source"], "type": e["type"], "data": e.data}))
    if e.data and e.data.get("fail"):
        raise ValueError("out of cheese")


def background(data, context):
    print("background " + json.dumps({"data": data, "event_id": context.event_id, "event_type": context.event_type}))
