"""The examples' scripts as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parent.parent / "examples"


def script(path: str) -> ModuleType:
    """A script of an example; what lies beside it can be imported by it, as when it is run."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, EXAMPLES / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    beside = str((EXAMPLES / path).parent)
    sys.path.insert(0, beside)
    sys.modules.pop("network", None)  # another example's
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(beside)
    return module
