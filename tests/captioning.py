"""An OpenAI-compatible chat-completions server on loopback, which captions what it is sent."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class Chat:
    """One model, which says "red wall" or "dark glasses" by what it is shown; `spoil` answers in its place."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.spoil: Response | None = None

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        if self.spoil is not None:
            return self.spoil
        text, image = body["messages"][0]["content"]
        assert text["type"] == "text" and image["image_url"]["url"].startswith("data:image/png;base64,")
        shown = Image.open(BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2])))
        red, _, _ = np.array(shown).reshape(-1, 3).mean(0)
        said = f"A {'red wall' if red > 100 else 'dark glasses'}, {shown.width} by {shown.height}."
        return JSONResponse({"choices": [{"message": {"role": "assistant", "content": said}}]})


@contextmanager
def serving(chat: Chat) -> Iterator[str]:
    app = Starlette(routes=[Route("/v1/chat/completions", chat.complete, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"
    server.should_exit = True
    thread.join()
