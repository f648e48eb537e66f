"""Prompts of attributes in words, and the vocabularies of a domain that come with cfx.

A vocabulary is a YAML file, `attribute: [positive, negative]`, each a prompt or a list of prompts; one's own is a copy with
more lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from cfx.errors import UserError
from cfx.paths import PATH_OR_ID
from cfx.yaml_reading import read

Prompt = Annotated[str, Field(min_length=1)]
ENDINGS = (".yaml", ".yml")


def _as_list(prompts: object) -> object:
    return (prompts,) if isinstance(prompts, str) else prompts


Prompts = Annotated[tuple[Prompt, ...], Field(min_length=1), BeforeValidator(_as_list)]


def read_vocabulary(source: str) -> dict[str, Any]:
    """The words of a vocabulary that comes with cfx, by its name, or of a YAML file.

    Raises UserError for an unknown name, a file that is not there, and one that holds something else.

    Examples:
        >>> read_vocabulary("faces")["glasses"]
        ['a photo of a person wearing glasses', 'a photo of a person without glasses']
    """
    path = _path_of(source)
    words = read(path)
    if not isinstance(words, dict) or not words:
        raise UserError(f"{path} holds no words; write one line an attribute: `glasses: [with glasses, without glasses]`")
    return words


def vocabularies() -> dict[str, Path]:
    """The vocabularies that come with cfx, by name.

    Examples:
        >>> sorted(vocabularies())
        ['animals', 'chest-xray', 'faces', 'industrial-surface', 'satellite', 'skin-lesions', 'vehicles']
    """
    folder = Path(str(files("cfx") / "attributes" / "vocabularies"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _path_of(source: str) -> Path:
    if source.endswith(ENDINGS):
        if not Path(source).is_file():
            raise UserError(f"there is no vocabulary file {source}; check `words`, or name one of {', '.join(vocabularies())}")
        return Path(source)
    name = Path(source).name  # a folder of that name beside the settings has made a path of it
    if name not in vocabularies():
        raise UserError(f"cfx has no vocabulary {name!r}; it has {', '.join(vocabularies())}; a file of your own ends in .yaml")
    return vocabularies()[name]


def _read(words: object) -> object:
    return read_vocabulary(words) if isinstance(words, str) else words


def _checked(words: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> Mapping[str, Any]:
    for name, (positive, negative) in words.items():
        if same := sorted(set(positive) & set(negative)):
            raise UserError(f"{name}: {same[0]!r} is said of both its presence and its absence; the two need different words")
    return words


Words = Annotated[
    dict[Annotated[str, Field(min_length=1)], tuple[Prompts, Prompts]],
    Field(min_length=1),
    BeforeValidator(_read),
    AfterValidator(_checked),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": PATH_OR_ID},
                {"type": "object", "additionalProperties": {"type": "array"}},
            ]
        }
    ),
]
