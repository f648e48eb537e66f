"""A classifier behind HTTP that may die in the middle of an audit and come back: how bright the upper half of an image is."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

SETTINGS = {  # of `classifier`, beside the address
    "access": "json",
    "send": "numbers",
    "request": '{"images": {{ images | tojson }}}',
    "response": "{{ reply.answers | tojson }}",
    "classes": ["not_smiling", "smiling"],
}


class ToyEndpoint(ThreadingHTTPServer):
    """Answers on loopback until it has answered for `lives` images; then it hangs up on everyone. `images` counts them."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, lives: int | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.lives, self.images, self.counting = lives, 0, threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> ToyEndpoint:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error of the endpoint's."""


class _Answer(BaseHTTPRequestHandler):
    server: ToyEndpoint

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        images = np.asarray(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["images"], np.float64)
        with self.server.counting:
            if self.server.lives is not None and self.server.images + len(images) > self.server.lives:
                self.connection.close()
                return
            self.server.images += len(images)
        smiling = images[:, :, : images.shape[2] // 2].mean((1, 2, 3))
        reply = json.dumps({"answers": np.stack([1 - smiling, smiling], 1).tolist()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
