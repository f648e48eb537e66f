"""Settings that are files or folders: a configuration's schema says so, and what reads the file makes them relative to it."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import WithJsonSchema

PATH, PATH_OR_ID = "path", "path-or-id"  # formats, in a configuration's schema, of settings that are relative to its file

FileName: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "format": PATH})]  # a file or folder, as text
ModelName: TypeAlias = Annotated[str, WithJsonSchema({"type": "string", "format": PATH_OR_ID})]  # a folder, or a hub's id
