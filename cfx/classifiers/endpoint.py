"""The way to a classifier over HTTP: verified TLS, a secret from outside, bounds in time and bytes, retries with growing pauses.

Every attempt is recorded in the ledger before it is sent, so that a budget holds whatever the network does. Requests are made on
an event loop: only there can a whole answer be given so much time, whose server may send a byte now and then for ever.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, Field, field_validator, model_validator
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_before_delay, wait_random_exponential

from cfx.classifiers.black_box import BlackBoxConfig, Ledger
from cfx.credentials import check_variable
from cfx.errors import TransientError, UserError
from cfx.masking import cut, declare, declare_value, masked
from cfx.types import Config

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
NOT_REACHED = "not reached"  # no connection was made, so nothing was queried
LARGEST = 64 * 2**20  # bytes of one answer: those to 16 images with 100,000 classes, in JSON, are half of it
PLAIN = ("", "identity", "gzip", "deflate")  # what else an answer may be packed with grows without bound
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]"  # what names are made of (RFC 9110, 5.6.2)


class Auth(Config):
    """A header that carries a secret. The file names the environment variable; the secret itself is written nowhere."""

    env: Annotated[str, AfterValidator(check_variable)] = Field(description="the environment variable that holds the secret")
    header: str = Field("Authorization", pattern=rf"^{_TOKEN}+$", description="the header")
    scheme: str = Field("Bearer", pattern=rf"^{_TOKEN}{{0,20}}$", description="the word before the secret; empty for none")

    @model_validator(mode="after")
    def _is_masked(self) -> Auth:
        declare(self.env)
        return self


class EndpointConfig(BlackBoxConfig):
    """What every endpoint declares."""

    url: str = Field(description="where it is, http:// or https://; certificates are always verified")
    auth: Auth | None = None
    ca: Path | None = Field(None, description="PEM file of a certificate authority of your own")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError("not an http:// or https:// address")
        return url.rstrip("/")


class Unavailable(TransientError):
    """An attempt that may go better next time, after so many seconds where the server says so (`Retry-After`)."""

    pause: float = 0.0


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Where every request of this process is made. Its thread ends with the process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="endpoints", daemon=True).start()
    return loop


class Endpoint:
    """One address and its manners. Safe to use from many threads: together they make `concurrency` calls at a time."""

    def __init__(self, config: EndpointConfig, secret: str | None) -> None:
        """Raises UserError if the configuration names a secret and there is none, FileNotFoundError without its `ca`."""
        self.config = config
        headers = {"Accept-Encoding": "gzip, deflate"}
        if config.auth is not None:
            if not secret:
                raise UserError(f"environment variable {config.auth.env} is not set; requests to {config.url} carry its value")
            if not (secret.isascii() and secret.isprintable()):
                raise UserError(
                    f"environment variable {config.auth.env} holds what no header can: a line break, or a letter beyond ASCII"
                )
            declare_value(secret)
            headers[config.auth.header] = f"{config.auth.scheme} {secret}".strip()
        if config.ca is not None and not config.ca.is_file():
            raise FileNotFoundError(
                f"there is no file {config.ca}; `ca` is a PEM file of the authority that vouches for {config.url}"
            )
        context = ssl.create_default_context(cafile=config.ca)
        limits = config.limits
        self._client = httpx.AsyncClient(
            headers=headers,
            verify=context,
            timeout=limits.timeout,
            limits=httpx.Limits(max_connections=limits.concurrency, max_keepalive_connections=limits.concurrency),
        )
        self._free = asyncio.Semaphore(limits.concurrency)  # waiting for a free connection is no time-out
        weakref.finalize(self, _close, self._client)

    def get(self, url: str) -> httpx.Response:
        """A page about the model; no image is sent."""
        return self._patiently(lambda: self._request("GET", url), url)

    def post(self, url: str, content: bytes, headers: Mapping[str, str], images: int, ledger: Ledger) -> httpx.Response:
        """One call. Raises Unavailable once patience has run out, UserError for a call that the endpoint refuses."""

        def once() -> httpx.Response:
            with ledger.call(images) as call:
                try:
                    response = self._request("POST", url, content, headers)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    call.status = NOT_REACHED
                    raise
                except (httpx.TimeoutException, TimeoutError):
                    call.status = "timed out"
                    raise
                except httpx.RequestError:
                    call.status = "broken off"
                    raise
                call.status = str(response.status_code)
                return response

        return self._patiently(once, url)

    def _request(self, method: str, url: str, content: bytes = b"", headers: Mapping[str, str] | None = None) -> httpx.Response:
        """One answer, read whole. Raises httpx.RequestError, TimeoutError, or UserError for an answer of too many bytes."""
        return asyncio.run_coroutine_threadsafe(self._read(method, url, content, headers or {}), _loop()).result()

    async def _read(self, method: str, url: str, content: bytes, headers: Mapping[str, str]) -> httpx.Response:
        async with (
            self._free,
            asyncio.timeout(self.config.limits.timeout),
            self._client.stream(method, url, content=content, headers=headers) as response,
        ):
            packed, body = response.headers.get("Content-Encoding", ""), bytearray()
            if packed.lower() not in PLAIN:
                raise UserError(f"{url} packs its answers with {cut(packed)!r}, where gzip and deflate are understood")
            async for part in response.aiter_bytes():
                body += part
                if len(body) > LARGEST:
                    raise UserError(f"{url} answered more than {LARGEST // 2**20} MiB to one call; no classifier says so much")
            plain = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
            return httpx.Response(response.status_code, headers=plain, content=bytes(body))

    def _patiently(self, once: Callable[[], httpx.Response], url: str) -> httpx.Response:
        patience = self.config.limits.patience
        attempts = Retrying(
            retry=retry_if_exception_type(Unavailable),
            wait=_pause,
            stop=stop_before_delay(patience),
            reraise=True,
        )
        try:
            return attempts(self._attempt, once, url)
        except Unavailable as error:
            way_out = "see that it is up and run again: what was answered is kept"
            raise Unavailable(f"{error}; retried for {patience:g} seconds (`limits.patience`); {way_out}") from error

    def _attempt(self, once: Callable[[], httpx.Response], url: str) -> httpx.Response:
        try:
            response = once()
        except TimeoutError as error:
            raise Unavailable(
                f"{url}: no whole answer within {self.config.limits.timeout:g} seconds (`limits.timeout`)"
            ) from error
        except httpx.RequestError as error:
            message = f"{url}: {type(error).__name__}: {masked(str(error))}"
            if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
                raise UserError(f"{message}; `ca` names the PEM file of an authority of your own") from error
            raise Unavailable(message) from error
        message = f"{url} answered {response.status_code}: {cut(response.text)}"
        if response.status_code in TRANSIENT:
            unavailable = Unavailable(message)
            unavailable.pause = _seconds(response.headers.get("Retry-After", ""))
            raise unavailable
        if response.is_error or response.is_redirect:
            raise UserError(message)
        return response


def read_json(content: bytes, url: str) -> Any:
    """What an endpoint answered. Raises UserError for what is no JSON, or says one thing twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            name = next(name for name in names if names.count(name) > 1)
            raise UserError(
                f"{url} answered JSON in which {cut(name, 60)!r} stands twice in one object: which is meant is not known"
            )
        return found

    try:
        return json.loads(content, object_pairs_hook=once)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"{url} did not answer in JSON: {masked(str(error))}") from error


def _close(client: httpx.AsyncClient) -> None:
    asyncio.run_coroutine_threadsafe(client.aclose(), _loop())


_GROWING = wait_random_exponential(multiplier=0.2, max=20)


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: growing and jittered, and no fewer than the server says."""
    failed = state.outcome.exception() if state.outcome is not None else None
    return max(_GROWING(state), failed.pause if isinstance(failed, Unavailable) else 0.0)


def _seconds(text: str) -> float:
    """A `Retry-After` in seconds from now (RFC 9110, 10.2.3: a number or a date); 0 for what is neither."""
    if text.strip().isdecimal():
        return float(text)
    with suppress(ValueError):
        return max(0.0, (email.utils.parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return 0.0


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__
