import threading
import time

import functions_framework

running = 0
lock = threading.Lock()


def change(by):
    global running
    with lock:
        running += by
        return running


@functions_framework.http
def count(request):
    args = {**(request.get_json(silent=True) or {}), **request.args}
    number, delay = int(args.get("count", 3)), float(args.get("delay", 100))

    def lines():
        for i in range(1, number + 1):
            yield f"{i} of {number}\n"
            time.sleep(delay / 1000)
        change(-1)

    # How many requests this instance has, with this one.
    header = {"Content-Type": "text/plain; charset=utf-8", "X-Running": str(change(1))}
    return lines(), 200, header
