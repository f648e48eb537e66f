"""`report_url`: the address at which other people open a report; a file on the machine of the audit is none."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator

from cfx.credentials import refuse_credentials
from cfx.errors import UserError

RUN = "{run}"


def checked(url: str) -> str:
    """The setting as it is, once it is known to be one. Raises UserError, which does not repeat an address with a password."""
    refuse_credentials(url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # of a port or an IPv6 address that is none
        host = None
    if host is None or parts.scheme not in ("http", "https") or not re.fullmatch(r"[\w.:@\[\]-]+", parts.netloc, re.ASCII):
        raise UserError(
            "not an http:// or https:// address; one such is https://host/reports/ or http://host:8100/runs/{run}/report"
        )
    if parts.query or parts.fragment:
        raise UserError("no ? and no # in this address: a token in it would be kept among the facts and shown in Prefect")
    if strange := re.search(r"[^\w.~%!$&'*+,;=:@/-]", parts.path.replace(RUN, ""), re.ASCII):
        raise UserError(f"no {strange.group()!r} in this address; its one placeholder is {{run}}, the run id, in the path")
    return url


ReportUrl = Annotated[str, AfterValidator(checked)]


def report_link(url: str | None, run_id: str) -> str | None:
    """The address of a run's report: in the folder at `url`, or `url` with the run id in the place of `{run}`; None for None."""
    if url is None:
        return None
    name = quote(run_id, safe="")
    return url.replace(RUN, name) if RUN in url else f"{url.rstrip('/')}/{name}.html"
