"""The benchmark's peer in Python: each line that a session's child prints, to all sockets of that session, with
python-socketio on uvicorn.

`python server.py AGENT` prints `listening PORT`, and ends with its stdin. A socket names its session in its auth; the
first of a session starts `AGENT --plain`, the last ends it. The event `ask` is a line to the child, `line` one from it.
"""

import asyncio
import json
import os
import resource
import socket
import sys
import threading
from asyncio.subprocess import PIPE

import socketio
import uvicorn

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
CHUNK_BYTES_MAX = 64 * 1024
BACKLOG = 4096  # a thousand clients connect at once

agent = sys.argv[1]
sessions = {}  # name -> Session
names = {}  # sid -> name
# With always_connect the acceptance of a socket goes out before what its connect handler emits.
sio = socketio.AsyncServer(
    async_mode="asgi", always_connect=True, http_compression=False, max_http_buffer_size=MESSAGE_BYTES_MAX
)


class Session:
    def __init__(self, name):
        self.members = 0
        self.child = None
        self.task = asyncio.create_task(self.relay(name))
        self.started = asyncio.Event()

    async def relay(self, name):
        self.child = await asyncio.create_subprocess_exec(
            agent, "--plain", stdin=PIPE, stdout=PIPE, limit=CHUNK_BYTES_MAX
        )
        self.started.set()
        try:
            rest = bytearray()
            while chunk := await self.child.stdout.read(CHUNK_BYTES_MAX):
                rest += chunk
                if b"\n" in chunk:
                    *lines, rest = rest.split(b"\n")
                    # Together, which is faster than one by one. asyncio starts them in order, and none waits before its
                    # packets are queued.
                    await asyncio.gather(*(sio.emit("line", json.loads(line), room=name) for line in lines))
        finally:
            if self.child.returncode is None:
                self.child.kill()


@sio.event
async def connect(sid, environ, auth):
    name = names[sid] = auth["session"]
    await sio.enter_room(sid, name)
    session = sessions.get(name)
    if session is None:
        session = sessions[name] = Session(name)
    session.members += 1
    await session.started.wait()
    await sio.emit("ready", to=sid)


@sio.event
async def ask(sid, line):
    sessions[names[sid]].child.stdin.write(line.encode() + b"\n")


@sio.event
async def disconnect(sid, reason):
    name = names.pop(sid)
    session = sessions[name]
    session.members -= 1
    if session.members == 0:
        del sessions[name]
        session.task.cancel()


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        sys.stdout.write(f"listening {sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()

    def handle_exit(self, sig, frame):
        os._exit(0)  # uvicorn's own way waits for the clients to leave


def end_with_stdin():
    # The children end with this process: it holds the other end of their stdin.
    while os.read(0, CHUNK_BYTES_MAX):
        pass
    os._exit(0)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    threading.Thread(target=end_with_stdin, daemon=True).start()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    # uvicorn's own pings are off, as Engine.IO has its own: they would drop a client that reads slowly.
    config = uvicorn.Config(
        socketio.ASGIApp(sio), loop="uvloop", http="httptools", ws="websockets-sansio", lifespan="off",
        access_log=False, log_level="warning", backlog=BACKLOG, ws_max_size=MESSAGE_BYTES_MAX, ws_ping_interval=None,
        ws_per_message_deflate=False,
    )
    Server(config).run(sockets=[listener])
