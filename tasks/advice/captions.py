"""Candidate words from captions: of the images that the names explain worst, by a captioner of the user's. Off by default.

An endpoint is sent images, so it takes an explicit permission, on this machine too: what listens there may pass them on.
"""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy as np
import torch
from PIL import Image

from cfx.classifiers.hugging_face import as_users, check_weights, quiet, transformers_package
from cfx.credentials import check_variable, fault
from cfx.errors import TransientError, UserError
from cfx.evidence.paired import Images
from cfx.images import encode_png
from cfx.masking import cut, declare, masked
from tasks.looked_at import as_tensor

PROMPT = (
    "Describe this image in one sentence: what is shown, what is around it, and anything unusual such as text, marks or borders."
)
LONGEST, MOST_WORDS, FEWEST = 60, 3, 2  # tokens of a caption; words of a phrase; captions that must have it
SECONDS = 120.0  # for one answer
REFUSED = (  # words that begin or end no noun phrase
    "a an the this that these those his her its their of in on at by for from to with without and or but as is are was were be "
    "been being has have had there it he she they who which what while over under behind near next into onto up down out off "
    "very some any no not image photo picture photograph shows showing shown depicts features featuring appears wearing looking "
    "one two"
)

Captioner = Callable[[Image.Image], str]
_STOP = frozenset(REFUSED.split())


class CaptionerOptions(NamedTuple):
    """A captioner as the command line names it: an address or a folder; `model` and the variable of a token for an address."""

    source: str
    send_images: bool = False
    model: str = "default"
    token_env: str | None = None


def captioner_of(options: CaptionerOptions) -> Captioner:
    """Raises UserError for an address without the permission to send images, and for what is no captioner."""
    if urlsplit(options.source).scheme in ("http", "https"):
        return _endpoint(options)
    return _folder(Path(options.source))


def captions_of(captioner: Captioner, images: Images) -> list[str]:
    """One caption of each image (N, H, W, 3) uint8."""
    return [captioner(Image.fromarray(image)) for image in images]


def phrases(captions: Sequence[str], most: int = 20) -> list[str]:
    """The noun phrases that are in most captions: runs of at most three words between function words and punctuation (as RAKE
    cuts, Rose et al. 2010), in at least two captions, the most frequent first.

    Examples:
        >>> phrases(["A cat on a red sofa.", "There is a red sofa, and a dog", "a dog with a red sofa"])
        ['red sofa', 'dog']
    """
    counted = Counter(phrase for caption in captions for phrase in dict.fromkeys(_runs(caption)))
    kept = [(n, phrase) for phrase, n in counted.items() if n >= FEWEST]
    return [phrase for n, phrase in sorted(kept, key=lambda one: (-one[0], one[1]))][:most]


def words_of(found: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Prompts of phrases, by attribute."""
    return {re.sub(r"\W+", "_", phrase): (f"a photo with {phrase}", f"a photo without {phrase}") for phrase in found}


def _runs(caption: str) -> list[str]:
    runs: list[list[str]] = [[]]
    for token in re.findall(r"[^\W\d_][\w'-]*|[^\w\s]", caption.lower()):
        if token in _STOP or not token[0].isalpha():
            runs.append([])
        else:
            runs[-1].append(token)
    return [" ".join(run) for run in runs if 0 < len(run) <= MOST_WORDS]


def _endpoint(options: CaptionerOptions) -> Captioner:
    """An OpenAI-compatible chat completion of a text and an image as a data URL."""
    parts = urlsplit(options.source)
    if (wrong := fault(options.source)) is not None:
        raise UserError(f"--captioner: {wrong}; name an environment variable with --token-env")
    if not options.send_images:
        raise UserError(
            f"--captioner: {parts.scheme}://{parts.netloc} would be sent images of this run, and images leave this process only "
            "with --send-images, for an address of this machine too; give it, or the folder of a local model"
        )
    if options.token_env is not None:
        check_variable(options.token_env)
        declare(options.token_env)
    token = os.environ.get(options.token_env, "").strip() if options.token_env is not None else None
    if options.token_env is not None and not token:
        raise UserError(
            f"--token-env: environment variable {options.token_env} is not set; requests to the captioner carry its value"
        )
    address = options.source.rstrip("/")
    address = address if address.endswith("/chat/completions") else f"{address}/chat/completions"
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    def caption(image: Image.Image) -> str:
        png = encode_png(as_tensor(np.array(image)[None]))[0]
        url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        content = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": url}}]
        body = {
            "model": options.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": LONGEST,
            "temperature": 0,
        }
        try:
            response = httpx.post(address, json=body, headers=headers, timeout=SECONDS)
        except httpx.RequestError as error:
            raise TransientError(f"--captioner: {address}: {type(error).__name__}: {masked(str(error))}") from None
        if not response.is_success:
            raise UserError(f"--captioner: {address} answered {response.status_code}: {cut(response.text)}")
        try:
            return str(response.json()["choices"][0]["message"]["content"])
        except (ValueError, KeyError, IndexError, TypeError):
            said = cut(response.text)
            raise UserError(f"--captioner: {address} did not answer with choices[0].message.content but: {said}") from None

    return caption


def _folder(folder: Path) -> Captioner:
    """A local image-text-to-text model, as `save_pretrained` writes it."""
    transformers = transformers_package()
    if not (folder / "config.json").is_file():
        raise UserError(f"--captioner: {folder} is neither an address nor a folder with config.json")
    check_weights(folder, "AutoModelForImageTextToText")
    local: Any = {"local_files_only": True, "trust_remote_code": False}
    with quiet(transformers), as_users(folder):
        model = transformers.AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True, **local).eval()
        processor = transformers.AutoProcessor.from_pretrained(folder, **local)

    @torch.no_grad()
    def caption(image: Image.Image) -> str:
        given = _inputs(processor, image)
        made = model.generate(**given, max_new_tokens=LONGEST, do_sample=False)
        prompt = given["input_ids"].shape[1] if "input_ids" in given and made.shape[1] > given["input_ids"].shape[1] else 0
        return str(processor.batch_decode(made[:, prompt:], skip_special_tokens=True)[0])

    return caption


def _inputs(processor: Any, image: Image.Image) -> Any:
    """What a model is given: the prompt and the image where it converses, the image alone where it only captions."""
    if getattr(processor, "chat_template", None) is None:
        return processor(images=image, return_tensors="pt")
    content = [{"type": "image", "image": image}, {"type": "text", "text": PROMPT}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
