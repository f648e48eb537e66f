"""Who reviews in this browser: a cookie that no script and no other site can read. It is a name, not a proof of who one is."""

from __future__ import annotations

from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response

from cfx.errors import UserError

COOKIE = "reviewer"
LONGEST = 100  # characters of a name
KEPT = 180 * 24 * 3600  # seconds


def reviewer_of(request: Request) -> str:
    """The name that was given in this browser; empty without one."""
    return unquote(request.cookies.get(COOKIE, "")).strip()[:LONGEST]


def remember(answer: Response, name: str) -> None:
    """Keep a name in the browser that gets this answer. Raises UserError for one that is empty or too long."""
    if not name.strip() or len(name) > LONGEST:
        raise UserError(f"reviewer: say who you are, in at most {LONGEST} characters")
    answer.set_cookie(COOKIE, quote(name.strip()), max_age=KEPT, httponly=True, samesite="strict")
