"""Real HTTP servers on loopback: a classifier that answers well, late, wrongly or not at all, and an inbox."""

from __future__ import annotations

import json
import socket
import threading
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

JSON_LENGTH = "Inference-Header-Content-Length"
CLASSES = ("low", "high")


def brightness(images: np.ndarray) -> np.ndarray:
    """Probabilities (b, 2) float32 of images (b, 3, S, S) in [0, 1]: how bright each is."""
    high = images.reshape(len(images), -1).mean(1, dtype=np.float64).astype(np.float32)
    return np.stack([1 - high, high], axis=1)


class Inbox(ThreadingHTTPServer):
    """Keeps every JSON that is POSTed to it, in `letters`, and serves the files of a folder."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Letters, directory=str(folder)))
        self.url, self.letters = f"http://127.0.0.1:{self.server_address[1]}", list[Any]()

    def __enter__(self) -> Inbox:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()


class _Letters(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        assert isinstance(self.server, Inbox)
        self.server.letters.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()


class Moody(ThreadingHTTPServer):
    """A KServe v2 server of one model, `brightness` (JSON and binary tensors), and a plain JSON endpoint at /classify.

    `moods` are lived out in turn, one a call; then it is well. A mood is a status to answer, "hang", "hang up", or a function
    that spoils the right answer. `images` counts what it was sent, `concurrent` how many calls there were at once.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, moods: list[Any] | None = None, port: int = 0, classify: Callable[[np.ndarray], np.ndarray] = brightness
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.moods, self.images, self.now, self.concurrent = moods or [], 0, 0, 0
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.connections: list[Any] = []
        self.pause, self.classify = 0.0, classify

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Moody:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with suppress(OSError):  # the client was first
                connection.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no error of the server's."""


class _Handler(BaseHTTPRequestHandler):
    server: Moody
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        tensors = {"inputs": [{"name": "image"}], "outputs": [{"name": "other"}, {"name": "p"}]}
        self._send(200, json.dumps({"name": "brightness", "versions": ["1"], **tensors}).encode())

    def do_POST(self) -> None:
        body, server = self.rfile.read(int(self.headers["Content-Length"])), self.server
        with server.lock:
            server.headers.append(dict(self.headers))
            mood = server.moods.pop(0) if server.moods else None
            server.now += 1
            server.concurrent = max(server.concurrent, server.now)
        time.sleep(server.pause)
        try:
            if self.path == "/classify":
                sent = json.loads(body)["instances"]
                if isinstance(sent[0], str):  # base64 of a PNG file
                    sent = [np.asarray(Image.open(BytesIO(b64decode(text)))).transpose(2, 0, 1) / 255 for text in sent]
                images = np.array(sent, np.float32)
                self._answer(mood, images, _plain)
            else:
                self._infer(mood, body)
        finally:
            with server.lock:
                server.now -= 1

    def _infer(self, mood: Any, body: bytes) -> None:
        length = int(self.headers.get(JSON_LENGTH, len(body)))
        call = json.loads(body[:length])
        source = call["inputs"][0]
        flat = np.array(source["data"], np.float32) if "data" in source else np.frombuffer(body[length:], "<f4")
        self._answer(mood, flat.reshape(source["shape"]), partial(_tensors, binary="data" not in source))

    def _answer(self, mood: Any, images: np.ndarray, encode: Callable[[np.ndarray], tuple[bytes, bytes]]) -> None:
        with self.server.lock:
            self.server.images += len(images)
        if mood == "hang":
            time.sleep(1.5)
        if mood == "hang up":
            self.close_connection = True
            self.connection.close()
            return
        if isinstance(mood, int):
            self._send(mood, f"in no mood; you said {self.headers.get('Authorization')}".encode())
            return
        answers = self.server.classify(images)
        head, raw = encode(mood(answers) if callable(mood) else answers)
        self._send(200, head + raw, {JSON_LENGTH: str(len(head))} if raw else {})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _plain(answers: np.ndarray) -> tuple[bytes, bytes]:
    return json.dumps({"predictions": [{"scores": row} for row in answers.tolist()]}).encode(), b""


def _tensors(answers: np.ndarray, binary: bool) -> tuple[bytes, bytes]:
    """Two outputs, of which `p` is the second: head and raw bytes of the answer."""
    other = np.zeros((len(answers), 1), np.float32)
    outputs, raw = [], b""
    for name, value in (("other", other), ("p", answers.astype("<f4"))):
        output = {"name": name, "shape": list(value.shape), "datatype": "FP32"}
        raw += value.tobytes() if binary else b""
        more = {"parameters": {"binary_data_size": value.nbytes}} if binary else {"data": value.ravel().tolist()}
        outputs.append(output | more)
    return json.dumps({"model_name": "brightness", "outputs": outputs}).encode(), raw
