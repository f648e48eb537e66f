"""`cfx explain`: one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.terminal import err, escaped, out, settle, told


def explain(
    image: Annotated[Path, typer.Argument(help="a picture")],
    target: Annotated[
        str | None, typer.Option(help="class to ask for, opposite, second-best or nearest-in-hierarchy; default: the YAML's")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="an audit's YAML; default: the demo's planted classifier")
    ] = None,
    to: Annotated[Path, typer.Option("--out", "-o", help="where the picture goes")] = Path("explanation.png"),
    seed: Annotated[int, typer.Option(help="seed of the noise")] = 0,
) -> None:
    """Explain one picture: input, counterfactual, mask and difference side by side."""
    settle(quiet=True)
    with told():
        from flows.config import load_config
        from flows.demo import demo_config
        from flows.engine import one_thread
        from tasks.advice.one_image import explain_image
        from tasks.check import device_of

        settings = load_config(config) if config is not None else demo_config(Path("cfx-demo"), "planted", 1)
        if target is not None:
            settings = settings.model_copy(update={"target": target})
        with err.status("explaining"), one_thread():
            found = explain_image(image, to, settings, seed, device_of(settings))
    out.print(f"{found.source} -> {found.target}: p({escaped(found.target)}) {found.before:.3f} -> {found.after:.3f}")
    out.print("flipped" if found.flipped else "[yellow]did not flip[/]: the last rung of the ladder is shown")
    for attribute, before, after in found.changed:
        out.print(f"  {escaped(attribute)}: {before:.2f} -> {after:.2f}")
    out.print(f"picture: {to}", soft_wrap=True)
