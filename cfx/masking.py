"""Secrets that this process knows, and their encodings, masked in what it writes: messages, log records, exceptions.

Known are the values of variables that settings name (`declare`), of variables whose name says what they hold, passwords in
addresses of the environment, and the keys in AWS's files; and whatever has the form of a service's token or of a password in
an address. What is masked is masked before it is cut: of a token that is cut first, the rest is shown.
"""

from __future__ import annotations

import base64
import configparser
import html
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

from cfx.credentials import PARAMETER, SECRETIVE, TOKENS, USERINFO

MASK = "***"
SHORTEST, SHORTEST_DECLARED = 6, 4  # characters: what is shorter stands in words by chance

_HOLDS_A_SECRET = re.compile(
    r"(?:^|_)(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|AUTH_STRING|WEBHOOK|(?:API|ACCESS|SECRET|PRIVATE|INTEGRATION)"
    r"_?KEY)(?:_|$)",
    re.IGNORECASE,
)
_A_PLACE = re.compile(r"_(?:FILE|PATH|DIR|FOLDER|HOME|NAME|ENV)$", re.IGNORECASE)  # where a secret is, and not the secret
_PASSWORD = re.compile(r"(?<![\w+.-])[A-Za-z][A-Za-z0-9+.-]+://([^\s/?#@:]*)(?::([^\s@]*))?@")
_TOKENS = re.compile("|".join(f"(?:{form})" for form in TOKENS.values()))

_DECLARED: set[str] = set()  # names of variables
_VALUES: set[str] = set()


def declare(variable: str) -> None:
    """This environment variable holds a secret: its value, whatever it is at the time, is masked."""
    _DECLARED.add(variable)


def declare_value(secret: str) -> None:
    """This is a secret."""
    if len(secret.strip()) >= SHORTEST_DECLARED:
        _VALUES.add(secret.strip())


def masked(text: str) -> str:
    """Text with *** in the place of every secret that is known or looks like one.

    Examples:
        >>> masked("tcp://me:pass/word@host:1 said 'Bearer abcdefgh12345678'; see https://host/x?api_key=1&page=2")
        "tcp://***@host:1 said '***'; see https://host/x?api_key=***&page=2"
    """
    known = _form(tuple(sorted(_secrets(), key=lambda secret: (-len(secret), secret))))
    text = known.sub(MASK, text) if known is not None else text
    if ":/" in text:
        text = USERINFO.sub(rf"\1{MASK}@", text)
        text = PARAMETER.sub(lambda one: f"{one[1]}{one[2]}={MASK}" if SECRETIVE.search(one[2]) else one[0], text)
    return _TOKENS.sub(MASK, text)


def cut(text: str, most: int = 200) -> str:
    """The beginning of what somebody else said, masked and then cut."""
    return masked(text)[:most]


def scrub(error: BaseException) -> BaseException:
    """The same error with every secret masked, in its causes too; another, that says the same, where it cannot be changed."""
    for one in _chain(error):
        one.args = tuple(_clean(value) for value in one.args)
        for name, value in list(getattr(one, "__dict__", {}).items()):
            if isinstance(value, str | list) and _clean(value) != value:  # `__notes__` is a list
                with suppress(AttributeError, TypeError):
                    setattr(one, name, _clean(value))
        if isinstance(one, OSError):  # which says these, and not its args
            for name in ("strerror", "filename", "filename2"):
                if isinstance(value := getattr(one, name), str) and masked(value) != value:
                    setattr(one, name, masked(value))
    still = [one for one in _chain(error) if masked(_said(one)) != _said(one)]  # whose words are not in its args
    if error in still:
        return RuntimeError(f"{type(error).__name__}: {masked(_said(error))}")
    if still:
        error.__cause__ = error.__context__ = None
    return error


@contextmanager
def scrubbed() -> Iterator[None]:
    """What the body raises holds no secret, and what it logs neither."""
    mask_logs()
    try:
        yield
    except Exception as error:
        clean = scrub(error)
        if clean is error:
            raise
        raise clean from None


def mask_logs() -> None:
    """From now on every log record of this process is masked when it is made, whoever makes it and wherever it goes."""
    make = logging.getLogRecordFactory()
    if getattr(make, "masks", False):
        return

    def record(*args: object, **more: object) -> logging.LogRecord:
        made = make(*args, **more)
        with suppress(Exception):  # a message that does not fit its arguments is reported by logging itself
            said = made.getMessage()
            if (clean := masked(said)) != said:
                made.msg, made.args = clean, None
        if made.exc_info and (error := made.exc_info[1]) is not None:
            clean_error = scrub(error)
            made.exc_info = (type(clean_error), clean_error, error.__traceback__)
        return made

    record.masks = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(record)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # of an error that cannot say what it is
        return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, those in it, and what they were raised from; each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _clean(value: object) -> object:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, bytes):
        text = value.decode("latin-1")
        return masked(text).encode("latin-1") if masked(text) != text else value
    if type(value) in (list, tuple):
        return type(value)(_clean(one) for one in value)  # type: ignore[call-arg, attr-defined]
    return {_clean(name): _clean(one) for name, one in value.items()} if type(value) is dict else value


def _secrets() -> set[str]:
    found = set(_VALUES) | {value.strip() for name in _DECLARED if len((value := os.environ.get(name, "")).strip()) > 3}
    for name, value in os.environ.items():
        if _HOLDS_A_SECRET.search(name) and not _A_PLACE.search(name):
            found.update(_of_variable(value.strip()))
        if "://" in value and (address := _PASSWORD.search(value)) is not None:
            found.update(each for part in address.groups()[-1:] for each in (part, unquote(part or "")) if _long(each))
            if not address[2] and _long(address[1]):  # a token in the place of a name
                found.add(address[1])
    for variable, place in (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")):
        path = Path(os.environ.get(variable) or Path.home() / ".aws" / place)
        with suppress(OSError):
            stat = path.stat()
            found.update(_of_file(str(path), stat.st_mtime_ns, stat.st_size))
    return found


def _of_variable(value: str) -> Iterator[str]:
    if not _long(value) or value.isdecimal() or value.lower() in ("false", "disabled", "enabled") or os.path.exists(value):
        return
    yield value
    name, colon, password = value.partition(":")
    if colon and "/" not in name and _long(password):  # name:password
        yield password


def _long(value: str | None) -> bool:
    return value is not None and len(value) >= SHORTEST


@lru_cache
def _of_file(path: str, changed: int, size: int) -> tuple[str, ...]:
    """The keys in a file of AWS's, as it was at that time."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError):
        return ()
    names = ("aws_secret_access_key", "aws_session_token")
    return tuple(value for part in parser.sections() for name in names if _long(value := parser.get(part, name, fallback="")))


@lru_cache(maxsize=64)
def _form(secrets: tuple[str, ...]) -> re.Pattern[str] | None:
    """What finds any of these, however it is encoded; the longest first."""
    forms = {form for secret in secrets for part in _parts(secret) for form in encodings(part)}
    return re.compile("|".join(map(re.escape, sorted(forms, key=lambda form: (-len(form), form))))) if forms else None


def _parts(secret: str) -> Iterable[str]:
    """A secret, and the lines of one of several, such as a key in PEM."""
    lines = [line.strip() for line in secret.splitlines()]
    return [secret, *(line for line in lines if len(line) >= 16)] if len(lines) > 1 else [secret]


def encodings(secret: str) -> set[str]:
    """A secret as it may stand in a text: plain, in an address, JSON, HTML or Python, hexadecimal, or within base64."""
    quoted = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    quoted |= {re.sub("%..", lambda escape: escape[0].lower(), one) for one in quoted}
    written = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    raw = secret.encode()
    packed = set[str]()
    for before in range(3):  # bytes that may stand before it, as the name in `name:password`
        first, last = (0, 2, 3)[before], (before + len(raw)) * 8 // 6
        for one in (base64.b64encode(bytes(before) + raw), base64.urlsafe_b64encode(bytes(before) + raw)):
            packed.add(one.decode()[first:last])
    more = {raw.hex(), *(one for one in packed if len(one) >= 8)} if len(raw) >= SHORTEST else set[str]()
    return {secret, html.escape(secret)} | quoted | written | more
