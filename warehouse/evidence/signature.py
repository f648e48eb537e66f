"""Who made an archive: an Ed25519 signature (RFC 8032) of its digest, by the package `cryptography`.

The file SIGNATURE has two lines: the signer's public key as OpenSSH writes it, and the signature in base64. Signed is the text
`cfx archive sha256:<hex>` with a line end, so that no signature of anything else can stand for one of an archive.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
    ssh_key_fingerprint,
)

from cfx.errors import UserError

_MAKE = "make a pair with `ssh-keygen -t ed25519 -f cfx-key` or `openssl genpkey -algorithm ed25519 -out cfx-key.pem`"


def private_key(path: Path, passphrase: Callable[[], str]) -> Ed25519PrivateKey:
    """The key to sign with, PEM or OpenSSH. passphrase: called for an encrypted one. Raises UserError naming the file."""
    data = _read(path)
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        key = load(data, None)
    except TypeError:  # it is encrypted
        try:
            key = load(data, passphrase().encode())
        except ValueError as error:
            raise UserError(f"{path} cannot be read with that passphrase") from error
        except UnsupportedAlgorithm as error:
            raise UserError(f"{path}: {error}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"{path} is no private key in PEM or OpenSSH form; {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{path} is no Ed25519 key; {_MAKE}")
    return key


def public_key(path: Path) -> Ed25519PublicKey:
    """The key to check with, PEM or OpenSSH. Raises UserError naming the file."""
    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise UserError(f"{path} is a private key; give the public one: `ssh-keygen -y -f KEY` or `openssl pkey -in KEY -pubout`")
    load = load_pem_public_key if b"BEGIN PUBLIC KEY" in data else load_ssh_public_key
    try:
        key = load(data.strip())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"{path} is no public key in PEM or OpenSSH form") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UserError(f"{path} is no Ed25519 key; {_MAKE}")
    return key


def signed(digest: str, key: Ed25519PrivateKey) -> bytes:
    """The file SIGNATURE for an archive of this digest."""
    return b"\n".join((_line(key.public_key()), base64.b64encode(key.sign(_text(digest))), b""))


def check(digest: str, signature: bytes, key: Ed25519PublicKey | None) -> str:
    """Who signed, as `ssh-keygen -lf` prints it: SHA256:…. Raises UserError unless it is a signature of this digest, by this key.

    key: None takes the one that stands in the signature, which proves nothing about who signed.
    """
    line, _, rest = signature.partition(b"\n")
    try:
        signer, value = load_ssh_public_key(line), base64.b64decode(rest.removesuffix(b"\n"), validate=True)
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise UserError("it is no signature of `cfx export --sign`") from error
    if not isinstance(signer, Ed25519PublicKey) or signature != b"\n".join((_line(signer), base64.b64encode(value), b"")):
        raise UserError("it is no signature of `cfx export --sign`")
    if key is not None and _line(key) != _line(signer):
        raise UserError(f"it was made with another key, {fingerprint(signer)}; the one given is {fingerprint(key)}")
    try:
        signer.verify(value, _text(digest))
    except InvalidSignature as error:
        raise UserError("it was made for other content: it does not fit the digest of this archive") from error
    return fingerprint(signer)


def fingerprint(key: Ed25519PublicKey) -> str:
    """As `ssh-keygen -lf` prints it."""
    return "SHA256:" + base64.b64encode(ssh_key_fingerprint(key, hashes.SHA256())).decode().rstrip("=")


def _line(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def _text(digest: str) -> bytes:
    return f"cfx archive {digest}\n".encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
