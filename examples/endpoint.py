"""Serve the demo's two classifiers by the KServe v2 / Open Inference Protocol on this machine only, to be audited as black boxes.

    .venv/bin/python examples/endpoint.py          # needs aissemble-open-inference-protocol-fastapi, which the extra `dev` brings
    .venv/bin/cfx audit examples/endpoint.yaml     # in another terminal

Models `planted` and `clean`: input `image` FP32 (n, 3, 64, 64), RGB in [0, 1]; output `probabilities` FP32 (n, 2).
With --weights FOLDER, each FOLDER/NAME.safetensors is a model NAME, too.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path
from typing import Any

import torch
import uvicorn
from aissemble_open_inference_protocol_fastapi.aissemble_oip_fastapi import AissembleOIPFastAPI
from aissemble_open_inference_protocol_shared.handlers.model_handler import DefaultModelHandler
from aissemble_open_inference_protocol_shared.types.dataplane import (
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
    ModelMetadataResponse,
    ModelReadyResponse,
    ResponseOutput,
)

from cfx.classifiers import ClassifierConfig, TorchClassifier, load_classifier


@cache
def network(weights: str) -> TorchClassifier:
    return load_classifier(ClassifierConfig(weights=weights))


class Portraits(DefaultModelHandler):  # type: ignore[misc] # a package without types
    """The server's handler: one request is one forward pass."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder

    def network(self, name: str) -> TorchClassifier:
        file = self.folder / f"{name}.safetensors" if self.folder else None
        return network(str(file) if file is not None and file.is_file() else f"portraits:{name}")

    @torch.no_grad()
    def infer(self, payload: InferenceRequest, model_name: str, model_version: str | None = None) -> InferenceResponse:
        tensor = payload.inputs[0]
        images = torch.tensor(tensor.data.root, dtype=torch.float32).view(tensor.shape)
        answers: Any = self.network(model_name)(images * 2 - 1).softmax(1)
        output = ResponseOutput(name="probabilities", shape=list(answers.shape), datatype="FP32", data=answers.ravel().tolist())
        return InferenceResponse(model_name=model_name, outputs=[output])

    def model_metadata(self, model_name: str, model_version: str | None = None) -> ModelMetadataResponse:
        return ModelMetadataResponse(
            name=model_name,
            platform="pytorch",
            inputs=[MetadataTensor(name="image", datatype="FP32", shape=[-1, 3, 64, 64])],
            outputs=[MetadataTensor(name="probabilities", datatype="FP32", shape=[-1, 2])],
        )

    def model_ready(self, model_name: str, model_version: str | None = None) -> ModelReadyResponse:
        self.network(model_name)
        return ModelReadyResponse(name=model_name, ready=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--port", type=int, default=8085)
    arguments.add_argument("--weights", type=Path, metavar="FOLDER", help="more classifiers to serve")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    uvicorn.run(AissembleOIPFastAPI(Portraits(options.weights)).server, host="127.0.0.1", port=options.port, log_level="warning")
