"""`cfx explain`: one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.progress import saying
from flows.terminal import check_image, check_out, err, escaped, out, settle, user_errors


def explain(
    image: Annotated[Path, typer.Argument(help="an image")],
    target: Annotated[
        str | None, typer.Option(help="target class, opposite, second-best or nearest-in-hierarchy; default: the YAML's")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="an audit's YAML; default: the demo's planted classifier")
    ] = None,
    to: Annotated[Path, typer.Option("--out", "-o", help="the image file to write")] = Path("explanation.png"),
    seed: Annotated[int, typer.Option(help="seed of the noise")] = 0,
) -> None:
    """Explain one image: input, counterfactual, mask and difference side by side."""
    settle(quiet=True)
    with user_errors():
        check_out(to)
        check_image(image)
        if config is not None:
            from flows.settings import read_yaml

            read_yaml(config)
        with saying(err, False, "loading torch"):  # what cannot be is refused by now
            from flows.config import load_config
            from flows.demo import demo_config
            from flows.engine import one_thread
            from tasks.advice.one_image import explain_image, panel
            from tasks.check import device_of, with_trained

        settings = with_trained(load_config(config)) if config is not None else demo_config(Path("cfx-demo"), "planted", 1)
        if target is not None:
            settings = settings.model_copy(update={"target": target})
        with saying(err, False, "explaining"), one_thread():
            found = explain_image(image, settings, seed, device_of(settings))
            to.write_bytes(panel(found))
    target = escaped(found.target)
    out.print(f"{escaped(found.source)} -> {target}: p({target}) {found.before:.3f} -> {found.after:.3f}", soft_wrap=True)
    out.print("flipped" if found.flipped else "[yellow]did not flip[/]: the last rung of the ladder is shown")
    for attribute, before, after in found.changed:
        out.print(f"  {escaped(attribute)}: {before:.2f} -> {after:.2f}")
    out.print(f"explanation: {escaped(to)}", soft_wrap=True)
