"""Credentials in settings: found in whatever setting they stand, and refused by a message that does not repeat them.

Settings are kept among the facts, and shown in reports, logs and Prefect. So a secret stands in the environment, and a setting
holds at most the name of its variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from cfx.errors import UserError

SECRETIVE = re.compile(
    r"(?:api|access|secret|private|subscription|account|shared|service|^)[_-]?key$|key[_-]?id$|token|secret|passw|passphrase|"
    r"pwd|credential|(?:^|[^a-z])(?:auth|authorization|sig|signature)(?:$|[^a-z])",
    re.IGNORECASE,
)  # names of what holds a secret, of a parameter in an address
TOKENS = {  # what services call their keys by
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "a GitHub token": r"\b(?:gh[opsur]_[A-Za-z0-9]{20,}|github_pat_\w{20,})",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{20,}",
    "an API key": r"\bsk(?:-|_live_|_test_)(?=[\w-]{0,99}\d)[\w-]{20,}",
    "a Slack token": r"\bxox[abeoprs]-[\w-]{10,}",
    "a Slack address": r"\bhooks\.slack\.com/services/[\w/]+",
    "a Google API key": r"\bAIza[\w-]{30,}",
    "a JSON web token": r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*",
    "an Authorization header": r"\b(?:Bearer|Basic)\s+(?=[\w.~+/-]{0,99}\d)[\w.~+/-]{16,}=*",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]*-----END [A-Z ]*PRIVATE KEY-----)?",
}
# `name:password@` or `name@` before a host. A password may hold a slash, so that what stands before it looks like a host and a
# port; `https:/` is what a path makes of an address. Lengths are bounded, so that the time is.
USERINFO = re.compile(r"(?<![\w+.-])([A-Za-z][A-Za-z0-9+.-]+:/+)(?:[^\s/?#@]{1,999}@|[^\s/?#@:\[]{1,999}:[^\s@]{0,999}@)")
_BARE = re.compile(r"(?!mailto:)[^\s/@:]+:[^\s@]+@(?:localhost|[\w-]+\.[\w.-]+|[\w-]+:\d+)(?:[:/?#]\S*)?")
PARAMETER = re.compile(r"([?&;#])([^\s=&;#?'\"]+)=([^\s&;#'\"]+)")
_SCHEME = re.compile(r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.-]+:/+\S")
_IN_A_BODY = re.compile(
    r"""["'](?P<name>\w*(?:api_?key|access_?key|secret|password|passwd|auth_?token)\w*)["']\s*:\s*["'][^"'{}\s]{6,}""", re.I
)

KEPT = "which is kept among the facts and shown in reports, logs and Prefect"
WAY_OUT = {
    "http": "an endpoint's stands in the environment variable that `auth.env` names, MLflow's in MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD (write %40 for an @ of the path)",
    "": "it is found in the environment, for S3 in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE "
    "(write %40 for an @ of the path)",
}


def refuse_credentials(settings: object, place: str = "") -> None:
    """Raises UserError, which names the place and the way out and no secret, for credentials in settings of any depth."""
    for where, text in _texts(settings, place):
        if (wrong := fault(text)) is not None:
            raise UserError(f"{where}: {wrong}" if where else wrong)


def fault(text: str) -> str | None:
    """What of this text is a secret, and where it belongs; None for nothing.

    Examples:
        >>> fault("s3://bucket/images"), fault("http://127.0.0.1:8000/v2?version=2&design=1")
        (None, None)
        >>> fault("s3://KEY:ab/SECRET@bucket")[:33]
        'no name or password in an address'
        >>> fault("https://host/classify?api_key=1234")[:59]
        'no secret in an address, which is kept among the facts and '
    """
    if (found := USERINFO.search(text)) is not None or _BARE.fullmatch(text):
        scheme = found[1].partition(":")[0].lower() if found is not None else ""
        return f"no name or password in an address, {KEPT}: {WAY_OUT['http' if scheme in ('http', 'https') else '']}"
    if _SCHEME.search(text):
        for parameter in PARAMETER.finditer(text):
            if SECRETIVE.search(parameter[2]):
                name = repr(parameter[2]) if re.fullmatch(r"[A-Za-z_-]{1,30}", parameter[2]) else "it"
                return (
                    f"no secret in an address, {KEPT}: leave it out, and to an endpoint send {name} as a header, whose value "
                    "stands in an environment variable: `auth: {env: NAME, header: HEADER, scheme: ''}`"
                )
    for kind, form in TOKENS.items():
        if re.search(form, text):
            return f"this looks like {kind}, {KEPT}: {WAY_OUT['http'].partition(' (')[0]}"
    if (named := _IN_A_BODY.search(text)) is not None:
        return (
            f"{named['name']!r} is given a value here, {KEPT}: send a secret as a header, `auth: {{env: NAME, header: HEADER}}`"
        )
    return None


def check_variable(name: str) -> str:
    """The name of an environment variable as it is. Raises UserError, without repeating it, for what may be the secret itself:
    no name, or one that is not set and is not written as such names are.
    """
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and (name in os.environ or (_is_a_name(name) and fault(name) is None)):
        return name
    raise UserError(
        "this is to be the name of an environment variable that holds the secret, such as MODEL_TOKEN. What stands here is not "
        "the name of one that is set, and not repeated, because it may be the secret: export it, and write the variable's name"
    )


def _is_a_name(name: str) -> bool:
    return name.upper() == name and (len(name) < 20 or "_" in name or not re.search(r"\d", name))


def _texts(value: object, place: str) -> Iterator[tuple[str, str]]:
    """Every text of the settings with its place; a name of a setting is a text too, and stands in no place that is a secret."""
    if isinstance(value, str | PurePath) or hasattr(value, "storage_options"):  # a UPath is no PurePath
        yield place, str(value)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(name, str):
                yield place, name
            yield from _texts(inner, f"{place}.{name}".lstrip("."))
    elif isinstance(value, list | tuple | set | frozenset):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{place}.{number}".lstrip("."))
