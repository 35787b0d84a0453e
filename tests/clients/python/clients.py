"""python-socketio against the running server: `clients.py KIND TRANSPORT`, with URL and TOKEN in the environment.

KIND is sync or asyncio; TRANSPORT is polling, websocket or default. Prints `cut` when its connection is to be cut.
"""

import asyncio
import os
import sys
import threading

import socketio

DEADLINE_S = 30
EVENTS = (
    "sessionRegistered", "claudeStreamStart", "claudeStreamChunk", "claudeStreamEnd", "claudeResponse", "prompt",
    "serverError", "sessionUpdated",
)
OPTIONS = {"reconnection_delay": 0.05, "reconnection_delay_max": 0.2}


class Sync:
    def __init__(self):
        self.client = socketio.Client(**OPTIONS)

    def do(self, name, *args, **options):
        return getattr(self.client, name)(*args, **options)


class Asyncio:
    """The asyncio client on a loop of its own, so that both kinds go through the same steps."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.client = asyncio.run_coroutine_threadsafe(self.make(), self.loop).result(DEADLINE_S)

    async def make(self):
        return socketio.AsyncClient(**OPTIONS)

    def do(self, name, *args, **options):
        coroutine = getattr(self.client, name)(*args, **options)
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE_S)


class Seen:
    """Every event in the order in which it came. The handlers take one argument, as most people write them."""

    def __init__(self, client):
        self.events = []
        self.more = threading.Condition()
        for name in EVENTS:
            client.on(name, lambda data, name=name: self.add(name, data))
        client.on("connect", lambda: self.add("connect", None))
        client.on("disconnect", lambda reason: self.add("disconnect", reason))

    def add(self, name, data):
        with self.more:
            self.events.append((name, data))
            self.more.notify_all()

    def wait(self, name, wanted=lambda data: True, since=0):
        def find():
            return next((event for event in self.events[since:] if event[0] == name and wanted(event[1])), None)

        with self.more:
            if not self.more.wait_for(find, DEADLINE_S):
                raise TimeoutError(f"waited {DEADLINE_S} s for {name}; there came {self.events[since:]}")
            return find()[1]

    def chunks(self, prompt_id, since=0):
        chunks = [data for name, data in self.events[since:] if name == "claudeStreamChunk"]
        return "".join(data["text"] for data in chunks if data["promptId"] == prompt_id)


def check(kind, transport):
    url, token = os.environ["URL"], os.environ["TOKEN"]
    transports = None if transport == "default" else [transport]
    one = Sync() if kind == "sync" else Asyncio()

    refused = Sync() if kind == "sync" else Asyncio()
    try:
        refused.do("connect", url, auth={"token": "wrong"}, transports=transports)
        raise AssertionError("a wrong token was accepted")
    except socketio.exceptions.ConnectionError:
        refused.do("disconnect")

    seen, known = Seen(one.client), {}
    one.do("connect", url, auth=lambda: {"token": token, **known}, transports=transports)
    registered = seen.wait("sessionRegistered")
    known["sessionId"] = session_id = registered["sessionId"]
    assert registered["resumed"] is False, registered

    def ask(prompt, **more):
        data = {"sessionId": session_id, "prompt": prompt, **more}
        return one.do("call", "askClaudeCode", data, timeout=DEADLINE_S)

    ack = ask("words 300")
    assert ack["ok"] is True and ack["position"] == 0, ack
    response = seen.wait("claudeResponse", lambda data: data["promptId"] == ack["promptId"])
    assert response["status"] == "done" and response["fullResponse"].endswith(" w300"), response
    assert seen.chunks(ack["promptId"]) == response["fullResponse"]

    attachment = {"name": "a.bin", "mediaType": "application/octet-stream", "data": bytes(range(256))}
    ack = ask("look at this", attachments=[attachment])
    assert ack["ok"] is True, ack
    shown = seen.wait("prompt", lambda data: data["promptId"] == ack["promptId"])
    assert shown["attachments"] == [{"name": "a.bin", "mediaType": "application/octet-stream", "bytes": 256}], shown
    seen.wait("claudeResponse", lambda data: data["promptId"] == ack["promptId"])
    one.do("emit", "askClaudeCode", {"sessionId": session_id})
    assert seen.wait("serverError")["code"] == "bad_request"

    ack = ask("slow 300 5")
    seen.wait("claudeStreamChunk", lambda data: data["promptId"] == ack["promptId"])
    since = len(seen.events)
    print("cut", flush=True)
    seen.wait("disconnect", since=since)
    registered = seen.wait("sessionRegistered", since=since)
    assert registered["sessionId"] == session_id and registered["resumed"] is True, registered
    response = seen.wait("claudeResponse", lambda data: data["promptId"] == ack["promptId"], since)
    since = max(index for index, (name, _) in enumerate(seen.events) if name == "sessionRegistered")
    # What was missed comes in front.
    so_far = seen.wait("claudeStreamStart", since=since)["soFar"]
    assert so_far + seen.chunks(ack["promptId"], since) == response["fullResponse"]
    assert response["fullResponse"].endswith(" w300"), response

    one.do("disconnect")
    seen.wait("disconnect", since=since)


check(*sys.argv[1:])
