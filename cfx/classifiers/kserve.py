"""A black box behind the KServe v2 / Open Inference Protocol: Triton, MLServer, OpenVINO Model Server, KServe.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol; binary tensors are Triton's extension of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import httpx
import numpy as np
from pydantic import Field

from cfx.classifiers.black_box import Array, Ledger, Query
from cfx.classifiers.endpoint import Endpoint, EndpointConfig, read_json
from cfx.errors import UserError
from cfx.masking import cut

DATATYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}  # what a table of probabilities comes as
SENT_AS = {"float32": "FP32", "uint8": "UINT8"}
JSON_LENGTH = "Inference-Header-Content-Length"


class KServeConfig(EndpointConfig):
    """A model served by the KServe v2 / Open Inference Protocol."""

    access: Literal["kserve"]
    model: str = Field(pattern=r"^[\w.-]+$", description="the model's name on the server")
    version: str | None = Field(None, pattern=r"^[\w.-]+$", description="its version; default: the server's choice")
    input: str | None = Field(None, description="the input that takes the images; default: the model's only one")
    output: str | None = Field(None, description="the output that answers; default: the model's only one")
    tensors: Literal["json", "binary"] = Field("json", description="binary: smaller and faster, where the server knows it")

    @property
    def path(self) -> str:
        """The address of the model, of its metadata too."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"{self.url}/v2/models/{self.model}{version}"


def load_kserve(config: KServeConfig, endpoint: Endpoint) -> tuple[Query, str]:
    """The model as a black box's `query`, and the SHA-256 of what the server says of it. Requests its metadata, no prediction.

    Raises Unavailable if the server cannot be reached, UserError if the model has no such input or output.
    """
    metadata = _json(endpoint.get(config.path).content, config.path)
    source = _named(metadata.get("inputs", []), config.input, "input", config)
    answer = _named(metadata.get("outputs", []), config.output, "output", config)

    def query(shown: Array, ledger: Ledger) -> Array:
        body, headers = request(shown, source, answer, config.tensors == "binary")
        response = endpoint.post(f"{config.path}/infer", body, headers, len(shown), ledger)
        return answer_in(response, answer, config.path)

    return query, hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def request(shown: Array, source: str, answer: str, binary: bool) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an inference request for images (b, ...), float32 or uint8."""
    tensor: dict[str, Any] = {"name": source, "shape": list(shown.shape), "datatype": SENT_AS[str(shown.dtype)]}
    if not binary:
        request = {"inputs": [tensor | {"data": shown.ravel().tolist()}], "outputs": [{"name": answer}]}
        return json.dumps(request).encode(), {"Content-Type": "application/json"}
    raw = shown.astype(shown.dtype.newbyteorder("<")).tobytes()
    wanted = {"name": answer, "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(raw)}}], "outputs": [wanted]}).encode()
    return head + raw, {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(head))}


def answer_in(response: httpx.Response, answer: str, path: str) -> Array:
    """The output tensor of that name, in the shape that it says. Raises UserError for anything else."""
    said = response.headers.get(JSON_LENGTH, str(len(response.content)))
    if not said.isdecimal() or int(said) > len(response.content):
        raise UserError(f"{path} answered {len(response.content)} bytes, of which {JSON_LENGTH} says {cut(said, 60)!r} are JSON")
    at = int(said)
    outputs = _json(response.content[:at], path).get("outputs") or []
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise UserError(f"{path} answered outputs that are no list of tensors: {cut(str(outputs))}")
    for output in outputs:
        size = _binary_size(output, path)
        if output.get("name") == answer:
            kind = DATATYPES.get(str(output.get("datatype")))
            if kind is None:
                raise UserError(
                    f"{path} answered {answer} as {cut(str(output.get('datatype')), 60)}; it needs {', '.join(DATATYPES)}"
                )
            try:
                data = np.array(output["data"], kind) if size is None else np.frombuffer(response.content[at : at + size], kind)
                return data.reshape(output["shape"])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise UserError(f"{path} answered {answer} with data that do not fit their shape: {cut(str(error))}") from error
        at += size or 0
    names = cut(", ".join(str(output.get("name")) for output in outputs))
    raise UserError(f"{path} answered no output {answer!r}, but {names or 'nothing'}")


def _binary_size(output: dict[str, Any], path: str) -> int | None:
    """How many bytes of an output follow the JSON; None where its numbers stand in it."""
    parameters = output.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else parameters
    if size is None or (type(size) is int and size >= 0):
        return size
    raise UserError(f"{path} answered an output whose parameters.binary_data_size is no number of bytes: {cut(str(size), 60)}")


def _json(content: bytes, path: str) -> dict[str, Any]:
    answer = read_json(content, path)
    if not isinstance(answer, dict):
        raise UserError(f"{path} answered a {type(answer).__name__}, where the protocol has an object")
    return answer


def _named(tensors: object, wanted: str | None, what: str, config: KServeConfig) -> str:
    """The tensor to use: the configured one, or the only one. Raises UserError. A server may say nothing of tensors."""
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        raise UserError(f"{config.path} says {what}s that are no list of tensors: {cut(str(tensors))}")
    names = [cut(str(tensor.get("name"))) for tensor in tensors]
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None:
        raise UserError(f"{config.path} has {what}s {', '.join(names) or 'unnamed'}; pick one with `{what}`")
    if names and wanted not in names:
        raise UserError(f"{config.path} has no {what} {wanted!r}; it has {', '.join(names)}")
    return wanted
