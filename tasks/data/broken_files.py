"""Arrow's many kinds of error about what a file holds, as one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


@contextmanager
def as_invalid() -> Iterator[None]:
    """Raises ArrowInvalid for whatever Arrow stumbles on in a file; what the system or a store says of it passes as it is.

    Broken Parquet is an OSError without a number, a name that is not UTF-8 a UnicodeDecodeError, a type that nobody reads an
    ArrowNotImplementedError.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise pa.ArrowInvalid(str(error)) from error
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        if isinstance(error, pa.ArrowInvalid):
            raise
        raise pa.ArrowInvalid(str(error)) from error
