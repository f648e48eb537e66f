"""The running head of a printed report: CSS, which Chromium sets in the margin of every page."""

from __future__ import annotations

import re


def running_head(run_id: str) -> str:
    r"""A rule of @page with the run's id; whatever it is made of, it stays text.

    Examples:
        >>> running_head('a-1"')
        '@page { @top-left { content: "cfx audit a\\2d 1\\22 "; } }\n'
    """
    text = re.sub(r"[^A-Za-z0-9]", lambda found: f"\\{ord(found[0]):x} ", run_id)
    return f'@page {{ @top-left {{ content: "cfx audit {text}"; }} }}\n'
