"""The way to a classifier over HTTP: verified TLS, a secret from outside, time-outs, retries with growing, jittered pauses.

Every attempt is recorded in the ledger before it is sent, so that a budget holds whatever the network does.
"""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import ConfigDict, Field, field_validator
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from cfx.classifiers.black_box import BlackBoxConfig, Ledger
from cfx.errors import TransientError, UserError
from cfx.types import Config

TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
NOT_REACHED = "not reached"  # no connection was made, so nothing was queried


class Auth(Config):
    """A header that carries a secret. The file names the environment variable; the secret itself is written nowhere."""

    env: str = Field(pattern=r"^[A-Za-z_]\w*$", description="the environment variable that holds the secret")
    header: str = Field("Authorization", description="the header")
    scheme: str = Field("Bearer", description="the word before the secret; empty for none")


class EndpointConfig(BlackBoxConfig):
    """What every endpoint declares."""

    model_config = ConfigDict(hide_input_in_errors=True)  # an address that is refused may hold a password

    url: str = Field(description="where it is, http:// or https://; certificates are always verified")
    auth: Auth | None = None
    ca: Path | None = Field(None, description="PEM file of a certificate authority of your own")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError("not an http:// or https:// address")
        if parts.username or parts.password:
            raise UserError("no name or password in an address: name an environment variable in `auth.env`")
        return url.rstrip("/")


class Unavailable(TransientError):
    """An attempt that may go better next time."""


class Endpoint:
    """One address and its manners. Safe to use from many threads: together they make `concurrency` calls at a time."""

    def __init__(self, config: EndpointConfig, secret: str | None) -> None:
        """Raises UserError if the configuration names a secret and there is none, FileNotFoundError without its `ca`."""
        self.config, self._secret = config, secret
        headers = {}
        if config.auth is not None:
            if not secret:
                raise UserError(f"environment variable {config.auth.env} is not set; requests to {config.url} carry its value")
            headers[config.auth.header] = f"{config.auth.scheme} {secret}".strip()
        if config.ca is not None and not config.ca.is_file():
            raise FileNotFoundError(
                f"there is no file {config.ca}; `ca` is a PEM file of the authority that vouches for {config.url}"
            )
        context = ssl.create_default_context(cafile=config.ca)
        limits = config.limits
        self._client = httpx.Client(
            headers=headers,
            verify=context,
            timeout=httpx.Timeout(limits.timeout, pool=None),  # waiting for a free connection is no time-out
            limits=httpx.Limits(max_connections=limits.concurrency, max_keepalive_connections=limits.concurrency),
        )
        weakref.finalize(self, self._client.close)

    def get(self, url: str) -> httpx.Response:
        """A page about the model; no image is sent."""
        return self._patiently(lambda: self._client.get(url), url)

    def post(self, url: str, content: bytes, headers: Mapping[str, str], images: int, ledger: Ledger) -> httpx.Response:
        """One call. Raises Unavailable once patience has run out, UserError for a call that the endpoint refuses."""

        def once() -> httpx.Response:
            with ledger.call(images) as call:
                try:
                    response = self._client.post(url, content=content, headers=dict(headers))
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    call.status = NOT_REACHED
                    raise
                except httpx.TimeoutException:
                    call.status = "timed out"
                    raise
                except httpx.RequestError:
                    call.status = "broken off"
                    raise
                call.status = str(response.status_code)
                return response

        return self._patiently(once, url)

    def _patiently(self, once: Callable[[], httpx.Response], url: str) -> httpx.Response:
        patience = self.config.limits.patience
        attempts = Retrying(
            retry=retry_if_exception_type(Unavailable),
            wait=wait_random_exponential(multiplier=0.2, max=20),
            stop=stop_after_delay(patience),
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
        except httpx.RequestError as error:
            raise Unavailable(f"{url}: {type(error).__name__}: {self._hidden(str(error))}") from error
        message = f"{url} answered {response.status_code}: {self._hidden(response.text[:200])}"
        if response.status_code in TRANSIENT:
            raise Unavailable(message)
        if response.is_error or response.is_redirect:
            raise UserError(message)
        return response

    def _hidden(self, text: str) -> str:
        """Text that may be shown, whatever the other side echoes."""
        return text.replace(self._secret, "***") if self._secret else text
