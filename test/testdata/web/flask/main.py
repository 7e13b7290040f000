import os
import time

from flask import Flask, request

app = Flask(__name__)


@app.get("/hello/<name>")
def hello(name):
    return {"message": f"Hello, {name}!"}


@app.post("/")
def echo():
    return request.get_json(), 201


@app.get("/count")
def count():
    def lines():
        for i in range(1, 4):
            yield f"{i}\n"
            time.sleep(0.3)

    return lines(), {"Content-Type": "text/plain"}


@app.get("/env")
def env():
    return dict(os.environ)
