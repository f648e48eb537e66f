"""`cfx calibrate`: a ladder for an audit, measured on a few of its images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.table import Table

from flows.terminal import AsJson, err, out, print_json, settle, user_errors


def calibrate(
    config: Annotated[Path, typer.Argument(help="the audit's YAML; its ladder's first rung says method and steps")],
    images: Annotated[int, typer.Option(min=4, help="of the audit's images to try on")] = 32,
    keep: Annotated[float, typer.Option(min=0.0, max=1.0, help="share of predictions that noising must leave alone")] = 0.8,
    as_json: AsJson = False,
) -> None:
    """Choose tau so that predictions survive noising and denoising, then the scales of the guidance; print a ladder to paste."""
    settle(quiet=True)
    with user_errors():
        from flows.config import load_config
        from flows.engine import one_thread
        from tasks.advice.calibrate import calibrate as calibrated
        from tasks.check import device_of, with_trained

        audit = with_trained(load_config(config))
        with err.status("measuring") as status, one_thread():
            found = calibrated(audit, images, keep, device_of(audit), status.update)
    first = found.ladder[0]
    depths = Table("tau", "timestep", "predictions kept", "mean change", title=f"noise and denoise alone, {found.n} images")
    for depth in found.depths:
        depths.add_row(str(depth.tau), str(depth.timestep), f"{depth.kept:.2f}", f"{depth.distance:.3f}")
    strengths = Table("scale", "flip rate", "judge flip rate", "mean change", title=f"{first['method']}, guided")
    for row in found.strengths:
        judged = "" if row.judged is None else f"{row.judged:.2f}"
        strengths.add_row(f"{row.scale:g}", f"{row.flipped:.2f}", judged, f"{row.l1:.3f}")
    out.print(depths, strengths)
    print("ladder:")  # noqa: T201
    for rung in found.ladder:
        print(f"  - {yaml.safe_dump(rung, default_flow_style=True, sort_keys=False, width=1000).strip()}")  # noqa: T201
    if as_json:
        tables = {"depths": [d._asdict() for d in found.depths], "strengths": [s._asdict() for s in found.strengths]}
        print_json({"n": found.n, **tables, "ladder": found.ladder})
