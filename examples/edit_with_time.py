"""TIME with a text-to-image model, for the classifier and the images of an audit's file; a black box will do.

    .venv/bin/python examples/edit_with_time.py run.yaml --model CompVis/stable-diffusion-v1-4 --device cuda --out time
    .venv/bin/python examples/edit_with_time.py examples/portraits.yaml --model portraits:text --device cpu --learn 100 --batch 16

Learns what images of each *predicted* class have in common (kept in OUT/tokens, not learned twice), edits the first images
towards their target class, retries what did not flip, and writes each with its edit to OUT/edits. What it finds is association in
these images, not reliance: see docs/how-to/black-box.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from cfx.diffusion.latent import LatentDiffusion, load_latent
from cfx.images import encode_png
from cfx.methods.textual_inversion import TokenTraining
from cfx.methods.time_edit import TIME, Inversions, time_edit
from cfx.targets import choose_targets
from cfx.types import Classifier
from flows.config import load_config
from tasks.black_boxes import answers_of
from tasks.config import WordsConfig
from tasks.data.ingest import check, sample
from tasks.networks import classifier_for
from tasks.stages.prompts import Labelled, learn_words

LADDER = ((25, 3.0), (30, 4.0), (35, 4.0), (35, 6.0))  # tau and scale, as published for smiles


def edit(
    model: LatentDiffusion, classifier: Classifier, x: Tensor, source: int, target: int, prompts: tuple[str, ...], steps: int
) -> tuple[Tensor, bool]:
    """The last attempt of one image (1, 3, S, S), and whether the classifier says target of it."""
    inversions: Inversions = {}
    x_cf, flipped = x, False
    for tau, scale in LADDER:
        config = TIME(steps=steps, tau=max(1, tau * steps // 50), scale=scale)
        x_cf = time_edit(model, x, [prompts[source]], [prompts[target]], config, ["it"], inversions).x_cf
        flipped = int(classifier(x_cf).argmax()) == target
        if flipped:
            break
    return x_cf, flipped


def main(
    config: Annotated[Path, typer.Argument(help="an audit's YAML: its data, its classifier, its target")],
    model: Annotated[str, typer.Option(help="a folder or hub id in Stable Diffusion's format")],
    out: Annotated[Path, typer.Option(help="where words and edits go")] = Path("time"),
    images: Annotated[int, typer.Option(help="images to edit")] = 16,
    begin: Annotated[str, typer.Option(help="the word that new words begin as")] = "photo",
    learn: Annotated[int, typer.Option(help="optimizer steps of each set of words")] = 800,
    batch: Annotated[int, typer.Option(help="images an optimizer step")] = 64,
    steps: Annotated[int, typer.Option(help="DDIM steps; the ladder's depths are of 50")] = 50,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cuda",
) -> None:
    """Learn the words, edit the images, print how many flipped."""
    settings, training = load_config(config), TokenTraining(steps=learn, batch=batch)
    classifier = classifier_for(settings.classifier, device, answers_of(out, "time"))
    x = sample(settings.data, check(settings.data).n).x
    probabilities = torch.cat([classifier(part.to(device)).softmax(1).cpu() for part in x.split(settings.batch_size)])
    predicted, target = probabilities.argmax(1), choose_targets(probabilities, settings.target, classifier.classes)
    drawn = load_latent(model, device)
    shown = ((x + 1) * 127.5).round().to(torch.uint8)
    words = WordsConfig(model=model, begin=begin, training=training)
    prompts = learn_words(drawn, Labelled(shown, predicted, classifier.classes), words, out / "tokens")
    wanted = [i for i in range(len(x)) if predicted[i] != target[i]][:images]
    (out / "edits").mkdir(parents=True, exist_ok=True)
    flips = 0
    for i in wanted:
        x_cf, flipped = edit(drawn, classifier, x[i : i + 1].to(device), int(predicted[i]), int(target[i]), prompts, steps)
        panel = encode_png(torch.cat([x[i : i + 1], x_cf.cpu()], dim=3))[0]
        (out / "edits" / f"{i:05d}{'-flipped' if flipped else ''}.png").write_bytes(panel)
        flips += flipped
    print(f"{flips} of {len(wanted)} flipped; edits: {out / 'edits'}")  # noqa: T201


if __name__ == "__main__":
    typer.run(main)
