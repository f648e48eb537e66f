"""Captions: images are sent only where that is allowed; what a real server answers becomes words; a local model captions too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from starlette.responses import JSONResponse, Response

from cfx.diffusion.text_to_image import word_tokenizer
from cfx.errors import TransientError, UserError
from tasks.advice.captions import CaptionerOptions, captioner_of, captions_of, phrases, words_of
from tests.captioning import Chat, serving

RED = np.zeros((2, 8, 12, 3), np.uint8)
RED[..., 0] = 200


@pytest.fixture
def chat() -> Iterator[tuple[Chat, str]]:
    server = Chat()
    with serving(server) as address:
        yield server, address


def test_no_image_is_sent_without_the_permission_to_this_machine_neither(chat: tuple[Chat, str]) -> None:
    server, address = chat
    with pytest.raises(
        UserError, match="would be sent images of this run, .* only with --send-images, for an address of this machine too"
    ):
        captioner_of(CaptionerOptions(address))
    assert server.asked == []


def test_an_endpoint_is_sent_the_image_and_its_sentence_comes_back(
    chat: tuple[Chat, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, address = chat
    monkeypatch.setenv("CAPTION_TOKEN", "s3cret")
    captions = captions_of(captioner_of(CaptionerOptions(address, True, "eye", "CAPTION_TOKEN")), RED)
    assert captions == ["A red wall, 12 by 8."] * 2
    assert [body["model"] for body in server.asked] == ["eye", "eye"]
    assert {headers["authorization"] for headers in server.headers} == {"Bearer s3cret"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Response("no s3cret here", 401), r"answered 401: no \*\*\* here"),
        (JSONResponse({"error": "s3cret"}), r"did not answer with choices\[0\].message.content but: .*\*\*\*"),
        (Response("<html>"), "did not answer with choices"),
        (Response(status_code=307, headers={"location": "http://127.0.0.1:9/"}), "answered 307"),
    ],
)
def test_what_is_no_caption_is_refused_and_the_token_is_never_shown(
    chat: tuple[Chat, str], monkeypatch: pytest.MonkeyPatch, spoil: Response, message: str
) -> None:
    server, address = chat
    server.spoil = spoil
    monkeypatch.setenv("CAPTION_TOKEN", "s3cret")
    with pytest.raises(UserError, match=message) as raised:
        captions_of(captioner_of(CaptionerOptions(address, True, token_env="CAPTION_TOKEN")), RED)
    assert "s3cret" not in str(raised.value)


def test_a_token_that_is_not_there_and_an_address_with_a_password_are_refused() -> None:
    with pytest.raises(UserError, match="--token-env: environment variable NO_SUCH_TOKEN is not set"):
        captioner_of(CaptionerOptions("http://127.0.0.1:9/v1", True, token_env="NO_SUCH_TOKEN"))
    with pytest.raises(UserError, match="no name or password in an address") as raised:
        captioner_of(CaptionerOptions("http://me:s3cret@127.0.0.1:9/v1", True))
    assert "s3cret" not in str(raised.value)


def test_a_server_that_is_not_there_may_come_back() -> None:
    with pytest.raises(TransientError, match="127.0.0.1:9/v1/chat/completions: Connect"):
        captions_of(captioner_of(CaptionerOptions("http://127.0.0.1:9/v1", True)), RED)


def test_phrases_are_those_of_several_captions_the_most_frequent_first() -> None:
    said = ["A man with a red hat in the snow.", "A red hat, snow", "the snow and some text!", "a photo of text"]
    assert phrases(said) == ["snow", "red hat", "text"]
    assert phrases(["one caption with a cat"]) == []
    assert phrases(said, most=1) == ["snow"]
    assert words_of(["red hat"]) == {"red_hat": ("a photo with red hat", "a photo without red hat")}


def test_a_local_model_captions_without_a_permission(tmp_path: Path) -> None:
    """A tiny GIT of random weights: what it says means nothing, but it is made of its vocabulary and is the same every time."""
    tokenizer: Any = word_tokenizer(tmp_path, ("a", "face", "hat"), 16)
    sizes: Any = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.GitConfig(
        vision_config={"image_size": 32, "patch_size": 16, **sizes},
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    torch.manual_seed(0)
    transformers.GitForCausalLM(config).save_pretrained(tmp_path)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    transformers.GitProcessor(images, tokenizer).save_pretrained(tmp_path)
    first, second = (captions_of(captioner_of(CaptionerOptions(str(tmp_path))), RED) for _ in range(2))
    assert first == second and len(first) == 2 and all(isinstance(caption, str) for caption in first)
    with pytest.raises(UserError, match="is neither an address nor a folder with config.json"):
        captioner_of(CaptionerOptions(str(tmp_path / "nosuch")))
