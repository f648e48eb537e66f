"""JSON that every reader takes: what it has no word for is null or text."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from decimal import Decimal


def as_json(value: object, indent: int | None = None) -> str:
    """A value as JSON: NaN and infinities are null, decimals numbers, bytes base64, times and the like text."""
    return json.dumps(_plain(value), allow_nan=False, indent=indent)


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return _plain(int(value) if value == value.to_integral_value() else float(value)) if value.is_finite() else None
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(inner) for inner in value]
    return str(value)
