"""A user's own code, named in a configuration as `package.module:name`: where it is found, and whose its failures are."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from cfx.allowed import check_module, check_object
from cfx.beside import BESIDE, searched
from cfx.errors import TransientError, UserCodeError, UserError

OURS = tuple(Path(__file__).parents[1] / name for name in ("cfx", "warehouse", "tasks", "flows"))  # known by the code's version

_RUN: dict[str, str] = {}  # the sources that the file of each module named so far was run from


def importable_from(folder: str | Path) -> None:
    """Modules in this folder can be imported from now on, where no installed one has their name.

    The folder comes last: a file that happens to be called like a library must not be taken for it.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def import_named(reference: str) -> tuple[ModuleType, Any]:
    """The module and the object of `package.module:name`, as their source is now.

    A module that was changed since it was named last, itself or in what it imports of its own (`sources_of`), is run again, so
    that what is found is what the sources say. Raises UserError, before it is imported, for one that is not allowed
    (`cfx.allowed`), ImportError for a module or a name that is not there, UserCodeError for a module that fails while it is
    imported.
    """
    check_module(reference)
    package, name = reference.split(":")
    BESIDE.named.add(package.partition(".")[0])
    try:
        with user_code(package):
            module = importlib.import_module(package)
            _run_again_if_changed(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"cannot import {package!r} ({error}); {searched()} were searched, and what is installed: put it beside the YAML "
            "file, or install it"
        ) from error
    if not hasattr(module, name):
        place = getattr(module, "__file__", None) or "built in"
        raise ImportError(
            f"module {package!r} ({place}) has no {name!r}; `module` is package.module:name, and a module of your own needs "
            "a name that no installed one has"
        )
    found = getattr(module, name)
    check_object(reference, found)
    return module, found


def source_of(thing: ModuleType | Callable[..., object]) -> str | None:
    """The source of a module or a function as it is on disk; None for what has none: compiled, or typed into a session."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return None


def sources_of(thing: ModuleType | Callable[..., object]) -> str:
    """The sources, as they are on disk, of a module or a function's module and of all that it imports from the folder that its
    top-level package lies in: what decides what the thing does. Of an installed package its version. Empty without a source.
    """
    module = thing if isinstance(thing, ModuleType) else inspect.getmodule(thing)
    if files := _own_files(module):
        return "\0".join(f"{name}\0{files[name].read_text(encoding='utf-8', errors='replace')}" for name in sorted(files))
    if module is not None and _is_installed(module):
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{importlib.metadata.version(module.__name__.partition('.')[0])}\0{source_of(thing)}"
    return source_of(thing) or ""


def _is_installed(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    kinds = ("stdlib", "purelib", "platlib")
    return file is not None and any(Path(file).is_relative_to(sysconfig.get_path(kind)) for kind in kinds)


def _own_files(module: ModuleType | None) -> dict[str, Path]:
    """By dotted name, the files of a user's module and of all that it imports from its folder; none of what is installed, or of
    cfx."""
    first = getattr(module, "__file__", None)
    if module is None or first is None or _is_installed(module):
        return {}
    depth = len(module.__name__.split(".")) - (0 if Path(first).name == "__init__.py" else 1)
    home, waiting, found = Path(first).parents[depth], [(module.__name__, Path(first))], dict[str, Path]()
    while waiting:
        name, path = waiting.pop()
        if name in found or path.suffix != ".py" or any(path.is_relative_to(package) for package in OURS):
            continue
        found[name] = path
        source = path.read_text(encoding="utf-8", errors="replace")
        waiting += [(other, where) for other in _imports(source, name, path) if (where := _file_of(other, home))]
    return found


def _imports(source: str, name: str, path: Path) -> list[str]:
    """The dotted names that a module's source may import: of `from a import b`, both a and a.b."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([part for part in above if part] + ([node.module] if node.module else []))
            names += [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
    return [".".join(parts[:end]) for parts in (each.split(".") for each in names) for end in range(1, len(parts) + 1)]


def _file_of(name: str, home: Path) -> Path | None:
    """The file of a module by its dotted name below a folder, or None."""
    plain, package = home.joinpath(*name.split(".")).with_suffix(".py"), home.joinpath(*name.split("."), "__init__.py")
    return next((path for path in (package, plain) if path.is_file()), None)


def _run_again_if_changed(module: ModuleType) -> None:
    source, file, sources = source_of(module), str(getattr(module, "__file__", "built in")), sources_of(module)
    if source is None or _RUN.setdefault(file, sources) == sources:
        return
    for name, path in _own_files(module).items():
        if name != module.__name__ and sys.modules.pop(name, None) is not None:
            with suppress(OSError):  # bytecode of the same second and size would be taken for the new source
                Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    code = compile(source, file, "exec")
    exec(code, module.__dict__)  # nosec B102 # the user's own module; `reload` may take bytecode of the same second
    _RUN[file] = sources


@contextmanager
def user_code(reference: str) -> Iterator[None]:
    """What is raised in the body by the user's own code is a UserCodeError that names it.

    A missing module stays ModuleNotFoundError where it is the named one or a parent of it; a connection that fails or takes too
    long is a TransientError, worth another try.
    """
    try:
        yield
    except (UserError, TransientError):  # whose it is has been said
        raise
    except (ConnectionError, TimeoutError) as error:
        raise TransientError(f"{reference} raised {_in_a_line(error)}") from error
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{reference}.".startswith(f"{error.name}."):
            raise
        raise UserCodeError(f"{reference} raised {_in_a_line(error)}", _their_frames(error)) from error


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def _their_frames(error: Exception) -> str:
    """The traceback from the first frame on that is neither cfx's nor the import system's."""
    ours = (str(Path(__file__).parent), importlib.__file__, "<frozen importlib")
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and frames.tb_frame.f_code.co_filename.startswith(ours):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))
