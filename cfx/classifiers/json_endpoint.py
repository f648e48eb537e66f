"""A black box behind any endpoint that takes and gives JSON, described by two Jinja templates, for request and response."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import warnings
from contextlib import suppress
from typing import Literal

import numpy as np
import torch
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import Field, field_validator, model_validator

from cfx.classifiers.black_box import Array, Ledger, Preprocessing, Query
from cfx.classifiers.endpoint import Endpoint, EndpointConfig, read_json
from cfx.errors import UserError
from cfx.images import encode_png
from cfx.masking import cut, masked

_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_JINJA.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": str}  # of what is not there, an error that names it


class JsonConfig(EndpointConfig):
    """An endpoint that takes a POST of JSON and answers in JSON."""

    access: Literal["json"]
    request: str = Field(description="Jinja template of the body; `images` is the list of a call's images")
    response: str = Field(description="Jinja template that makes the list of the images' answers out of the reply, `reply`")
    send: Literal["png", "numbers"] = Field(
        "png", description="png: each image as base64 text of a PNG file; numbers: nested lists as `image` declares"
    )

    version: str | None = Field(None, description="what you call this state of the model: another word is another run")

    @field_validator("request", "response")
    @classmethod
    def _is_a_template(cls, text: str) -> str:
        try:
            needed = find_undeclared_variables(_JINJA.parse(text))
        except TemplateError as error:
            raise UserError(f"not a Jinja template: {error}") from error
        if "pictures" in needed:  # as 0.1 called them; works until 0.3
            warnings.warn("the variable `pictures` of `request` is now `images`; rename it", DeprecationWarning, stacklevel=2)
        return text

    @model_validator(mode="after")
    def _a_png_has_its_own_numbers(self) -> JsonConfig:
        if self.send == "png" and self.image != Preprocessing(size=self.image.size):
            raise UserError("a PNG holds 8-bit pixels: of `image` only size has a meaning; or set `send: numbers`")
        return self


def load_json(config: JsonConfig, endpoint: Endpoint) -> tuple[Query, str]:
    """The endpoint as a black box's `query`, and the SHA-256 of its address: nothing else is known of what answers there.

    A query raises UserError for a reply that is not JSON, or of which `response` does not make a list of numbers.
    """
    body, reading = _JINJA.from_string(config.request), _JINJA.from_string(config.response)

    def query(shown: Array, ledger: Ledger) -> object:
        images = _as_png(shown) if config.send == "png" else shown.tolist()
        content = _filled(body, f"{config.url}: template `request`", images=images, pictures=images).encode()
        response = endpoint.post(config.url, content, {"Content-Type": "application/json"}, len(shown), ledger)
        reply, template = read_json(response.content, config.url), f"{config.url}: template `response`"
        filled = _filled(reading, template, reply=reply)
        try:
            answers = json.loads(filled)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{template} does not make a list of numbers ({error}); end it with `| tojson`") from error
        check_answers(answers, len(shown), f"{template}, of the reply {shown_json(reply)},")
        return answers

    return query, hashlib.sha256(config.url.encode()).hexdigest()


def check_answers(answers: object, n: int, template: str) -> None:
    """Raises UserError for what is no list of n answers, each a number or as many numbers as the others."""
    if not isinstance(answers, list):
        raise UserError(f"{template} makes {shown_json(answers)}, which is no list of the images' answers")
    if len(answers) != n:
        raise UserError(f"{template} makes a list of {len(answers)} answers to {n} images")
    with suppress(TypeError, ValueError, OverflowError):
        values = np.asarray(answers, np.float64)
        if values.ndim <= 2 and np.isfinite(values).all():
            return
    for number, answer in enumerate(answers, 1):
        for value in answer if isinstance(answer, list) else [answer]:
            if not isinstance(value, int | float) or not np.isfinite(_as_float(value)):
                raise UserError(
                    f"{template} makes {shown_json(value)} of the answer to image {number} of {n}, where a number stands, or a "
                    "list of numbers"
                )
    lengths = sorted({len(answer) if isinstance(answer, list) else 1 for answer in answers})
    raise UserError(
        f"{template} makes answers of {' and '.join(map(str, lengths))} numbers; each image needs as many as the others"
    )


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def shown_json(value: object) -> str:
    """What somebody else said, in few words."""
    return cut(json.dumps(value, default=str, ensure_ascii=False))


def _as_png(shown: Array) -> list[str]:
    x = torch.from_numpy(shown) * 2 - 1  # plain [0, 1], channels first, as the configuration guarantees
    return [base64.b64encode(png).decode() for png in encode_png(x)]


def _filled(template: Template, name: str, **values: object) -> str:
    try:
        return template.render(values)
    except Exception as error:  # a template is the user's: it may add a word to a number, or print what is not there as JSON
        raise UserError(
            f"{name} cannot be filled in: {masked(str(error)) or type(error).__name__}; it was given {_few(values)}"
        ) from error


def _few(values: dict[str, object]) -> str:
    """The values of a template, in few words; images are only counted."""
    shown = {
        name: f"{len(value)} images" if isinstance(value, list) and name != "reply" else value for name, value in values.items()
    }
    return ", ".join(f"{name} = {cut(str(value))}" for name, value in shown.items())
