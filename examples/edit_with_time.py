"""TIME with a text-to-image model, for the classifier and the pictures of an audit's file; a black box will do.

    .venv/bin/python examples/edit_with_time.py run.yaml --model CompVis/stable-diffusion-v1-4 --device cuda --out time

Learns what pictures of each *predicted* class have in common (kept in OUT/tokens, not learned twice), edits the first pictures
towards their target class, retries what did not flip, and writes each with its edit to OUT/edits. What it finds is association in
these pictures, not reliance: see docs/black-box.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from cfx.diffusion.latent import LatentDiffusion, load_latent
from cfx.methods.textual_inversion import Tokens, TokenTraining, add_tokens, learn_tokens, load_tokens, save_tokens, start_from
from cfx.methods.time_edit import TIME, Inversions, time_edit
from cfx.pictures import encode_png
from cfx.targets import choose_targets
from cfx.types import Classifier
from flows.config import load_config
from tasks import data, predict
from tasks.black_box import answers_of

CONTEXT = tuple(f"A {{context}} {noun}" for noun in ("portrait", "picture", "image", "photo", "photograph", "snapshot at random"))
LADDER = ((25, 3.0), (30, 4.0), (35, 4.0), (35, 6.0))  # tau and guidance, as published for smiles


def learned(
    path: Path, model: LatentDiffusion, pictures: Tensor, begun: Tokens, prompts: list[str], training: TokenTraining
) -> Tokens:
    """The words of this file, learned first if it is not there."""
    if not path.is_file():
        save_tokens(path, learn_tokens(model, pictures, begun, prompts, training))
    tokens = load_tokens(path)
    add_tokens(model, tokens)
    return tokens


def prompts_of(
    model: LatentDiffusion, pictures: Tensor, predicted: Tensor, classes: int, begin: str, out: Path, training: TokenTraining
) -> list[str]:
    """One prompt a class: context words learned on all pictures, three words of its own on those predicted as it."""
    words = start_from(model, ["<c1>", "<c2>", "<c3>"], [begin] * 3)
    context = learned(out / "context.pth", model, pictures, words, [p.format(context=words.phrase) for p in CONTEXT], training)
    prompts = []
    for index in range(classes):
        words = start_from(model, [f"<k{index}-{i}>" for i in range(3)], [begin] * 3)
        prompt = f"A {context.phrase} photo with a {words.phrase}"
        learned(out / f"class-{index}.pth", model, pictures[predicted == index], words, [prompt], training)
        prompts.append(prompt)
    return prompts


def edit(
    model: LatentDiffusion, classifier: Classifier, x: Tensor, source: int, target: int, prompts: list[str], steps: int
) -> tuple[Tensor, bool]:
    """The last attempt of one picture (1, 3, S, S), and whether the classifier says target of it."""
    inversions: Inversions = {}
    x_cf, flipped = x, False
    for tau, guidance in LADDER:
        config = TIME(steps=steps, tau=max(1, tau * steps // 50), guidance=guidance)
        x_cf = time_edit(model, x, [prompts[source]], [prompts[target]], config, ["it"], inversions).x_cf
        flipped = int(classifier(x_cf).argmax()) == target
        if flipped:
            break
    return x_cf, flipped


def main(
    config: Annotated[Path, typer.Argument(help="an audit's YAML: its data, its classifier, its target")],
    model: Annotated[str, typer.Option(help="a folder or hub id in Stable Diffusion's format")],
    out: Annotated[Path, typer.Option(help="where words and edits go")] = Path("time"),
    images: Annotated[int, typer.Option(help="pictures to edit")] = 16,
    begin: Annotated[str, typer.Option(help="the word that new words begin as")] = "photo",
    learn: Annotated[int, typer.Option(help="optimizer steps of each set of words")] = 800,
    batch: Annotated[int, typer.Option(help="pictures an optimizer step")] = 64,
    steps: Annotated[int, typer.Option(help="DDIM steps; the ladder's depths are of 50")] = 50,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cuda",
) -> None:
    """Learn the words, edit the pictures, print how many flipped."""
    settings, training = load_config(config), TokenTraining(steps=learn, batch=batch)
    classifier = predict.classifier_for(settings.classifier, device, answers_of(out, "time"))
    pictures = predict.pictures(data.ingest(out, "time", settings.data, settings.shard_size))
    x = pictures.float() / 127.5 - 1
    probabilities = torch.cat([classifier(part.to(device)).softmax(1).cpu() for part in x.split(settings.batch_size)])
    predicted, target = probabilities.argmax(1), choose_targets(probabilities, settings.target, classifier.classes)
    drawn = load_latent(model, device)
    prompts = prompts_of(drawn, pictures, predicted, len(classifier.classes), begin, out / "tokens", training)
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
