"""A report as PDF: printed by the Chromium or Chrome that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from cfx.errors import UserError
from cfx.scratch import temporary_folder

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def write_pdf(report: Path, seconds: float = 120) -> Path:
    """Print an HTML file to a PDF beside it and return its path.

    Raises FileNotFoundError without a browser, and UserError where it does not print within so many seconds.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise FileNotFoundError(f"a PDF needs one of {', '.join(BROWSERS)} on PATH (Debian, Ubuntu: apt-get install chromium)")
    to = report.with_suffix(".pdf")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to run as root with one
    with temporary_folder() as profile:
        flags = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-pdf-header-footer", f"--user-data-dir={profile}"]
        command = [found, *flags, *sandbox, f"--print-to-pdf={to.resolve()}", report.resolve().as_uri()]
        try:
            ended = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{found} did not print {report} within {seconds:g} s") from error
    if not to.is_file() or not to.read_bytes().startswith(b"%PDF"):
        raise UserError(f"{found} did not print {report}: {ended.stderr.decode(errors='replace').strip()[-300:]}")
    return to
