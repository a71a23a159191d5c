"""A real S3 server on the loopback interface, and a proxy before it that fails requests as storages do."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTKEY",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-no-message-shows",
    "AWS_REGION": "us-east-1",
}
BUSY = "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@contextlib.contextmanager
def s3_server():
    """Its address; buckets are made by `make_bucket`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import moto.server; moto.server.main()", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def environment(address):
    """What a client needs to reach the server."""
    return {**CREDENTIALS, "AWS_ENDPOINT_URL": address}


def make_bucket(address, name):
    urllib.request.urlopen(urllib.request.Request(f"{address}/{name}", method="PUT"), timeout=10).close()


@contextlib.contextmanager
def storage_that_answers(code, body):
    """The address of a server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            send(self, code, body.encode())

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def log_message(self, *args):
            pass

    with _serving(Handler) as address:
        yield address


@contextlib.contextmanager
def failing_storage(address, share=0.1, seed=0, answers_lost=True):
    """The address of a proxy before a server: a share of requests fails, half of these after they were carried out.

    With it what was asked, counted by kind.
    """
    draw, lock, target = random.Random(seed), threading.Lock(), address.removeprefix("http://")
    counts = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            with lock:
                fails, after = draw.random() < share, answers_lost and draw.random() < 0.5
                counts["requests"] += 1
                counts[_kind(self.command, self.path)] += 1
                counts["failed"] += fails
                counts["lost"] += fails and after
            if fails and not after:
                send(self, 503, BUSY.encode())
                return
            connection = http.client.HTTPConnection(target, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            got = connection.getresponse()
            content = got.read()
            connection.close()
            if fails:
                send(self, 500, b"<Error><Code>InternalError</Code></Error>")
                return
            self.send_response(got.status)
            for name, value in got.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            length = got.getheader("content-length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("content-length", length)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

        def log_message(self, *args):
            pass

    with _serving(Handler) as own:
        yield own, counts


def _kind(command, path):
    """Of a request, as price lists have it; PART is a part of a file."""
    if command == "GET" and "list-type=" in path:
        return "LIST"
    if command == "POST":
        return "DELETE" if path.endswith("?delete") else "PUT"
    return "PART" if "partNumber=" in path else command


def send(handler, code, body):
    handler.send_response(code)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@contextlib.contextmanager
def _serving(handler):
    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass  # a client that was killed

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def as_in(variables, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
