"""The official Python clients, sync and asyncio, over each transport, against the echo server.

    python3 -m venv VENV && VENV/bin/pip install -r tests/clients/python/requirements.txt
    cargo build --example echo_server
    VENV/bin/python tests/clients/python/echo_clients.py

The server is target/debug/examples/echo_server, below CARGO_TARGET_DIR if that is set; CSM_ECHO_SERVER names another.
Prints one line for each client and transport; the exit code is 1 if one of them failed.
"""

import asyncio
import os
import pathlib
import queue
import subprocess
import sys
import traceback

import socketio

# It only ever costs time when something is broken.
DEADLINE = 60

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
SERVER = os.environ.get("CSM_ECHO_SERVER") or f"{TARGET}/debug/examples/echo_server"

TRANSPORTS = {
    "default settings": None,
    "polling only": ["polling"],
    "websocket only": ["websocket"],
}

# What is sent, as a tuple of arguments.
ARGUMENTS = [
    ("wörld \U0001f600", 1, None, {"a": [True]}),
    (b"\x00\x01\xfe\xff",),
    ({"deep": [b"\x01"]}, "between", b"\x02\x03", b""),
    ("x" * 200_000, bytes(200_000)),
]


class EchoServer:
    """The echo server as a child process."""

    def __init__(self, port=0):
        # Pings of 300/200 ms would end a client that a busy machine holds up for a moment.
        arguments = [SERVER, "--port", str(port), "--pings", "1000/20000"]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def same(got, sent):
    assert got == sent, f"{str(got)[:200]} in place of {str(sent)[:200]}"


def acked(args):
    """How the library hands over the arguments of an acknowledgement that has `args`."""
    return args[0] if len(args) == 1 else args


# The sync client


class Inbox:
    """Every event of one namespace, in order."""

    def __init__(self, client, namespace):
        self.events = {name: queue.Queue() for name in ("auth", "message-back", "ack-back", "connect", "disconnect")}
        for name, events in self.events.items():
            client.on(name, lambda *args, events=events: events.put(args), namespace=namespace)
        client.on("with-ack", lambda *args: args, namespace=namespace)

    def next(self, name):
        return self.events[name].get(timeout=DEADLINE)


def sync_talks(client, namespace, inbox):
    for args in ARGUMENTS:
        client.emit("message", args, namespace=namespace)
        same(inbox.next("message-back"), args)
        answer = client.call("message-with-ack", args, namespace=namespace, timeout=DEADLINE)
        same(acked(tuple(answer)) if isinstance(answer, (list, tuple)) else answer, acked(args))
        client.emit("emit-with-ack", args, namespace=namespace)
        same(inbox.next("ack-back"), args)


def sync_client(transports):
    server = EchoServer()
    # No event of the reconnection is missed: the handlers are there before the client connects.
    client = socketio.Client()
    try:
        main, custom = Inbox(client, "/"), Inbox(client, "/custom")
        url = f"http://127.0.0.1:{server.port}"
        client.connect(url, auth={"token": "abc"}, transports=transports, namespaces=["/", "/custom"], wait_timeout=DEADLINE)
        same(main.next("auth"), ({"token": "abc"},))
        same(custom.next("auth"), ({"token": "abc"},))
        main.next("connect"), custom.next("connect")
        same(client.transport(), transports[0] if transports else "websocket")
        sync_talks(client, "/", main)
        sync_talks(client, "/custom", custom)
        for number in range(500):
            client.emit("message", number)
        same([main.next("message-back")[0] for _ in range(500)], list(range(500)))
        # The server ends the stay in one namespace; the other one goes on.
        client.emit("leave", namespace="/custom")
        custom.next("disconnect")
        sync_talks(client, "/", main)
        # The server goes and comes back: the client does, too, by itself.
        server.stop()
        main.next("disconnect")
        server = EchoServer(server.port)
        main.next("connect")
        sync_talks(client, "/", main)
    finally:
        client.shutdown()
        server.stop()
    other = EchoServer()
    refused = socketio.Client()
    try:
        refused.connect(f"http://127.0.0.1:{other.port}", transports=transports, namespaces=["/nowhere"], wait_timeout=DEADLINE)
        raise AssertionError("a namespace that does not exist was connected to")
    except socketio.exceptions.ConnectionError:
        pass
    finally:
        refused.shutdown()
        other.stop()


# The asyncio client


class AsyncInbox:
    """Every event of one namespace, in order."""

    def __init__(self, client, namespace):
        self.events = {name: asyncio.Queue() for name in ("auth", "message-back", "ack-back", "connect", "disconnect")}
        for name, events in self.events.items():
            client.on(name, lambda *args, events=events: events.put_nowait(args), namespace=namespace)
        client.on("with-ack", lambda *args: args, namespace=namespace)

    async def next(self, name):
        return await asyncio.wait_for(self.events[name].get(), DEADLINE)


async def async_talks(client, namespace, inbox):
    for args in ARGUMENTS:
        await client.emit("message", args, namespace=namespace)
        same(await inbox.next("message-back"), args)
        answer = await client.call("message-with-ack", args, namespace=namespace, timeout=DEADLINE)
        same(acked(tuple(answer)) if isinstance(answer, (list, tuple)) else answer, acked(args))
        await client.emit("emit-with-ack", args, namespace=namespace)
        same(await inbox.next("ack-back"), args)


async def async_client(transports):
    server = EchoServer()
    client = socketio.AsyncClient()
    try:
        main, custom = AsyncInbox(client, "/"), AsyncInbox(client, "/custom")
        url = f"http://127.0.0.1:{server.port}"
        await client.connect(
            url, auth={"token": "abc"}, transports=transports, namespaces=["/", "/custom"], wait_timeout=DEADLINE
        )
        same(await main.next("auth"), ({"token": "abc"},))
        same(await custom.next("auth"), ({"token": "abc"},))
        await main.next("connect"), await custom.next("connect")
        same(client.transport(), transports[0] if transports else "websocket")
        await async_talks(client, "/", main)
        await async_talks(client, "/custom", custom)
        for number in range(500):
            await client.emit("message", number)
        same([(await main.next("message-back"))[0] for _ in range(500)], list(range(500)))
        await client.emit("leave", namespace="/custom")
        await custom.next("disconnect")
        await async_talks(client, "/", main)
        server.stop()
        await main.next("disconnect")
        server = EchoServer(server.port)
        await main.next("connect")
        await async_talks(client, "/", main)
    finally:
        await client.shutdown()
        server.stop()
    other = EchoServer()
    refused = socketio.AsyncClient()
    try:
        await refused.connect(
            f"http://127.0.0.1:{other.port}", transports=transports, namespaces=["/nowhere"], wait_timeout=DEADLINE
        )
        raise AssertionError("a namespace that does not exist was connected to")
    except socketio.exceptions.ConnectionError:
        pass
    finally:
        await refused.shutdown()
        other.stop()


def main():
    clients = {
        "sync": sync_client,
        "asyncio": lambda transports: asyncio.run(async_client(transports)),
    }
    failed = 0
    for client, run in clients.items():
        for transport, transports in TRANSPORTS.items():
            try:
                run(transports)
                print(f"ok      {client}, {transport}", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED  {client}, {transport}\n{traceback.format_exc()}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
