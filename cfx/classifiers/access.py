"""The ways to a classifier: one field, `access`, tells them apart; without it, a torch network in this process."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Discriminator, Tag

from cfx.classifiers.black_box import BlackBox, Ledger
from cfx.classifiers.endpoint import Endpoint, EndpointConfig
from cfx.classifiers.json_endpoint import JsonConfig, load_json
from cfx.classifiers.kserve import KServeConfig, load_kserve
from cfx.classifiers.onnx import OnnxConfig, load_onnx
from cfx.classifiers.python_function import CallableConfig, load_callable
from cfx.classifiers.torch_module import ClassifierConfig


def _access(settings: object) -> str:
    return str(settings.get("access", "torch") if isinstance(settings, dict) else getattr(settings, "access", "torch"))


AnyClassifier = Annotated[
    Annotated[ClassifierConfig, Tag("torch")]
    | Annotated[CallableConfig, Tag("callable")]
    | Annotated[OnnxConfig, Tag("onnx")]
    | Annotated[KServeConfig, Tag("kserve")]
    | Annotated[JsonConfig, Tag("json")],
    Discriminator(_access),
]
BlackBoxes = CallableConfig | OnnxConfig | KServeConfig | JsonConfig


def named(config: BlackBoxes) -> str:
    """What errors and the ledger call a black box."""
    match config:
        case CallableConfig():
            return config.module
        case OnnxConfig():
            return str(config.weights)
        case KServeConfig():
            return config.path
        case JsonConfig():
            return config.url


def load_black_box(config: BlackBoxes, ledger: Ledger, secret: str | None = None, device: torch.device | str = "cpu") -> BlackBox:
    """The classifier behind this configuration; `secret` is the value of the variable that `auth.env` names.

    No image is sent. Raises ImportError, FileNotFoundError, ConnectionError or UserError naming what does not fit.
    """
    match config:
        case CallableConfig():
            query, fingerprint = load_callable(config)
        case OnnxConfig():
            query, fingerprint, config = load_onnx(config, device)
        case KServeConfig():
            query, fingerprint = load_kserve(config, Endpoint(config, secret))
        case JsonConfig():
            query, fingerprint = load_json(config, Endpoint(config, secret))
    side_by_side = config.limits.concurrency if isinstance(config, EndpointConfig) else 1
    return BlackBox(named(config), config, query, ledger, fingerprint, side_by_side)
