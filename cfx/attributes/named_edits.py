"""Edit one attribute by its word: TIME's editing between two prompts that differ in that word alone.

The other intervention beside the oracle's gradient (`interventions`): the oracle only says what the picture shows and whether an
edit did it. Inversion is exact, so the sham, the same prompt both ways, is the picture as the model's autoencoder has it.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cfx.attributes.oracle import Oracle
from cfx.diffusion.between_prompts import TextModel
from cfx.errors import UserError
from cfx.methods.time_edit import TIME, Inversions, time_edit
from cfx.paths import ModelName
from cfx.types import Config, Edit


class NamedEdits(Config):
    """A text-to-image model that knows the attributes by name, and how far to go for an edit."""

    model: ModelName | None = Field(
        None,
        description="a folder in diffusers' format or a hub id: any generator that reads prompts; `portraits:text` comes with "
        "cfx; left out: the audit's prior, if that reads prompts",
    )
    revision: str | None = Field(None, description="of a hub's id: a commit, branch or tag; only a commit stays the same")
    words: dict[str, str] = Field(min_length=1, description="the word of each attribute, such as `glasses: glasses`")
    prompt: str = Field("a photo with a {words}", pattern=r"\{words\}", description="{words}: those that a picture has")
    rungs: tuple[TIME, ...] = Field(
        (TIME(tau=12, scale=2.0), TIME(tau=20, scale=2.0), TIME(tau=25, scale=3.0)),
        min_length=1,
        description="tried in turn until the oracle confirms the edit",
    )

    @model_validator(mode="after")
    def _of_a_model(self) -> NamedEdits:
        if self.revision is not None and self.model is None:
            raise UserError(f"revision is {self.revision!r}, but no `model` is named; that of the prior stands at the prior")
        return self

    def told(self, present: dict[str, bool]) -> str:
        """The prompt of a picture with these attributes; those without a word are not told."""
        said = " ".join(word for attribute, word in self.words.items() if present.get(attribute, False))
        return self.prompt.format(words=said).strip()


@torch.no_grad()
def edit_by_word(model: TextModel, oracle: Oracle, x: Tensor, attribute: int, named: NamedEdits, image_ids: list[str]) -> Edit:
    """Toggle one attribute of x (B, 3, H, W) in [-1, 1], by its position in `oracle.attributes`, through its word.

    The last rung is kept where the oracle confirms none. Raises UserError for an attribute without a word.
    """
    name = oracle.attributes[attribute]
    if name not in named.words:
        raise UserError(f"{name!r} has no word; interventions.named.words names {', '.join(named.words)}")
    edited, sham = [], []
    for i, image_id in enumerate(image_ids):
        picture = x[i : i + 1]
        present = dict(zip(oracle.attributes, (oracle(picture)[0] > 0.5).tolist(), strict=True))
        here, there = named.told(present), named.told(present | {name: not present[name]})
        inversions: Inversions = {}
        for rung in named.rungs:
            x_edit = time_edit(model, picture, [here], [there], rung, [image_id], inversions).x_cf
            if bool(oracle(x_edit)[0, attribute] > 0.5) is not present[name]:
                break
        edited.append(x_edit)
        sham.append(model.decode(model.encode(picture), (x.shape[-2], x.shape[-1])))
    return Edit(torch.cat(edited), torch.cat(sham), torch.ones_like(x[:, :1]))
