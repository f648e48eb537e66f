"""A page in a real browser that asks a Prefect server to start a run whose command it chose, in all the ways that a page can."""

from __future__ import annotations

import json

from chromium import Page

ASKED = """
(async () => {
    const [url, key, body] = %s
    const ask = async more => {
        try {
            return (await fetch(url, {method: "POST", body, ...more})).status
        } catch (error) {
            return error.name
        }
    }
    const json = {"Content-Type": "application/json"}
    return {
        "as JSON": await ask({headers: json}),
        "with the key": await ask({headers: {...json, Authorization: "Basic " + btoa(key)}}),
        "unseen": await ask({mode: "no-cors", headers: {"Content-Type": "text/plain"}}),
        "unseen, as who is logged in": await ask({mode: "no-cors", credentials: "include"}),
    }
})()
"""
COMMAND = {"job_variables": {"command": "touch /tmp/a-page-ran-this"}, "state": {"type": "SCHEDULED"}}


def answers_to(page: Page, origin: str, url: str, key: str) -> dict[str, int | str]:
    """What a page at `origin` gets for a POST to `url`: a status (0: hidden from the page), or the name of the error."""
    page.open(origin)
    answers: dict[str, int | str] = page.evaluate(ASKED % json.dumps([url, key, json.dumps(COMMAND)]))
    return answers
