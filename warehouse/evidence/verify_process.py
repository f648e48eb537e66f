"""A stranger's archive is verified in a process of its own, with little memory and time: it may break that, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from cfx.errors import UserError
from warehouse.evidence.verify import Verification
from warehouse.lens.query_process import ARROW

SECONDS = 600  # that a verification may take
PROCESS = 7 << 28  # bytes of data that the process may have in all: 1.75 GiB, under 2 GiB with the libraries' code
DUCKDB = 3 << 28  # bytes of these that DuckDB may hold at once
SPILL = 8 << 30  # bytes that it may lay on the disk meanwhile
REFUSED = 3  # exit code: it cannot be verified, and why is on standard error


def verify_stranger(path: Path, key: Path | None = None, seconds: float = SECONDS) -> Verification:
    """Verify an archive as `verify_archive` does, within limits. key: the file of the signer's public key.

    Raises UserError as that does, for a key that cannot be read, and where the archive takes more time or memory than it may.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    request = json.dumps([str(path.absolute()), None if key is None else _line(key)])
    command = [sys.executable, "-P", "-m", "warehouse.evidence.verify_process"]
    with TemporaryDirectory() as folder:  # what is left behind by a process that was stopped goes with it
        try:
            places = os.environ | {"TMPDIR": folder} | ARROW
            done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=seconds, check=False, env=places)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{path} could not be verified: it takes more than {seconds:g} s") from error
    if done.returncode == REFUSED:
        raise UserError(done.stderr.decode(errors="replace").strip())
    if done.returncode:
        raise UserError(
            f"{path} could not be verified: it takes more than {PROCESS >> 20:,} MiB of memory, or broke its process off"
        )
    return Verification(**json.loads(done.stdout))


def _line(key: Path) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from warehouse.evidence.signature import public_key

    return public_key(key).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def main() -> None:
    """Verify the archive on standard input, as JSON on standard output."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (PROCESS, PROCESS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    from warehouse.evidence.verify_archive import verify_archive
    from warehouse.lens import connect

    connect.SETTINGS |= {"memory_limit": f"{DUCKDB}B", "max_temp_directory_size": f"{SPILL}B", "threads": 2}
    path, line = json.load(sys.stdin)
    key = None if line is None else load_ssh_public_key(line.encode())
    assert key is None or isinstance(key, Ed25519PublicKey)
    try:
        found = verify_archive(Path(path), key)
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201
        raise SystemExit(REFUSED) from error
    except MemoryError as error:
        print(f"{path} could not be verified: it takes more than {PROCESS >> 20:,} MiB of memory", file=sys.stderr)  # noqa: T201
        raise SystemExit(REFUSED) from error
    json.dump(asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
