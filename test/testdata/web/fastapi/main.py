import asyncio
import os

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/hello/{name}")
async def hello(name: str):
    return {"message": f"Hello, {name}!"}


@app.post("/", status_code=201)
async def echo(request: Request):
    return await request.json()


@app.get("/count")
async def count():
    async def lines():
        for i in range(1, 4):
            yield f"{i}\n"
            await asyncio.sleep(0.3)

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/env")
async def env():
    return dict(os.environ)


@app.websocket("/echo")
async def talk(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(f"you said {text}")
