"""A server of WebSockets, and of little else."""
import asyncio
import os

from websockets.asyncio.server import serve


async def echo(ws):
    async for message in ws:
        if message == "crash":
            print("about to crash", flush=True)
            os.kill(os.getpid(), 9)
        if message == "bye":
            await ws.close(4000, "bye")
        await ws.send(message)


def refuse(connection, request):
    if request.path == "/refuse":
        response = connection.respond(403, "no\n")
        response.headers["X-Why"] = "because"
        return response


async def main():
    async with serve(echo, "0.0.0.0", int(os.environ["PORT"]), process_request=refuse) as server:
        await server.serve_forever()


asyncio.run(main())
