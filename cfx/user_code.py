"""A user's own code, named in a configuration as `package.module:name`: where it is found, and whose its failures are."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from cfx.beside import BESIDE, searched
from cfx.errors import TransientError, UserCodeError, UserError

_RUN: dict[str, str] = {}  # the source that the file of each module named so far was run from


def importable_from(folder: str | Path) -> None:
    """Modules in this folder can be imported from now on, where no installed one has their name.

    The folder comes last: a file that happens to be called like a library must not be taken for it.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def import_named(reference: str) -> tuple[ModuleType, Any]:
    """The module and the object of `package.module:name`, as their source is now.

    A module that was changed since it was named last is run again, so that what is found is what its source says; modules that
    it imports in turn stay as they are. Raises ImportError for a module or a name that is not there, UserCodeError for a module
    that fails while it is imported.
    """
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
    return module, getattr(module, name)


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
    if module is None or (first := getattr(module, "__file__", None)) is None:
        return source_of(thing) or ""
    parts = module.__name__.split(".")
    if any(Path(first).is_relative_to(sysconfig.get_path(kind)) for kind in ("stdlib", "purelib", "platlib")):
        with suppress(importlib.metadata.PackageNotFoundError):
            return f"{importlib.metadata.version(parts[0])}\0{source_of(thing)}"
        return source_of(thing) or ""
    home = Path(first).parents[len(parts) - (0 if Path(first).name == "__init__.py" else 1)]
    waiting, found = [(module.__name__, Path(first))], dict[str, str]()
    while waiting:
        name, path = waiting.pop()
        if name in found or path.suffix != ".py":
            continue
        found[name] = path.read_text(encoding="utf-8", errors="replace")
        waiting += [(other, where) for other in _imports(found[name], name, path) if (where := _file_of(other, home))]
    return "\0".join(f"{name}\0{found[name]}" for name in sorted(found)) or source_of(thing) or ""


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
    source, file = source_of(module), str(getattr(module, "__file__", "built in"))
    if source is not None and _RUN.setdefault(file, source) != source:
        exec(compile(source, file, "exec"), module.__dict__)  # `reload` may take bytecode of the same second
        _RUN[file] = source


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
