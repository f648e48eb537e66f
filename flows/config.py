"""`AuditConfig`: everything an audit needs, as one YAML file that is checked before any work."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema

from cfx.attributes.interventions import Interventions
from cfx.attributes.oracle import OracleConfig
from cfx.classifiers import AnyClassifier
from cfx.diffusion.guided import PUBLISHED, GuidedDiffusion
from cfx.errors import UserError
from cfx.training.classifier import ClassifierTraining
from tasks.data.annotations import Annotations
from tasks.data.ingest import DataConfig
from tasks.reading.gate import Policy
from tasks.stages.canary import Canary
from tasks.stages.encoders import FILES, MeasureConfig
from tasks.stages.explain import Ladder
from tasks.stages.prior import PriorConfig
from tasks.stages.prompts import WordsConfig
from tasks.stages.saliency import SaliencyConfig
from warehouse.facts.storage import warehouse_at

PATHS = {
    ("warehouse",),
    ("data", "images"),
    ("data", "table"),
    ("prior", "path"),
    ("saliency", "regions"),
    *((who, "weights") for who in ("classifier", "judge", "oracle")),
    *(("canary", twin, "weights") for twin in ("planted", "clean")),
    *((who, "ca") for who in ("classifier", "judge")),
    *(("measures", encoder) for encoder in FILES),
}


WITHOUT_EFFECT: Any = {  # on results: where, how fast and how often, and what is allowed
    **dict.fromkeys(("warehouse", "gate", "batch_size", "workers", "device", "engine", "cluster"), True),
    **{who: {"limits", "auth", "ca"} for who in ("classifier", "judge")},
}


# A folder or a URL; never with credentials, because a configuration is kept among the facts.
WarehousePath = Annotated[Path, PlainValidator(warehouse_at), PlainSerializer(str), WithJsonSchema({"type": "string"})]


class ConfigError(UserError):
    """A configuration that cannot work; its message names the place, the value and the way out."""


class AuditConfig(BaseModel):
    """One audit. Relative paths are relative to the YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="what the run is called: lower case, digits, dashes")
    warehouse: WarehousePath = Field(
        Path("warehouse-data"), description="where facts and reports are kept: a folder, or a URL such as s3://bucket/prefix"
    )
    data: DataConfig
    classifier: AnyClassifier = Field(description="the classifier under audit")
    judge: AnyClassifier | None = Field(None, description="a second classifier of the same task, never used for guidance")
    oracle: OracleConfig = Field(description="names the attributes of a picture")
    prior: PriorConfig
    surrogate: ClassifierTraining | None = Field(
        None, description="for a black box: how to train the network that guides the ladder, on the images and its answers"
    )
    words: WordsConfig | None = Field(
        None, description="for the method time: its text-to-image model, and how words are learned from the predictions"
    )
    target: str = Field(
        "opposite",
        description="opposite (of two classes), second-best, nearest-in-hierarchy, most-confused (by these images' labels), or a "
        "class to ask for",
    )
    hierarchy: dict[str, tuple[str, ...]] | None = Field(
        None, description="for nearest-in-hierarchy: class -> names from the root down to its parent"
    )
    target_attribute: str | None = Field(
        None, description="the oracle's attribute that is the label itself; left out of rankings"
    )
    ladder: Ladder = Field(
        description="method configurations, tried in turn on the images that did not flip; or a preset: default, dime/celeba …"
    )
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    interventions: Interventions = Field(Interventions(), description="edits of one attribute alone, to tell cause from company")
    saliency: SaliencyConfig | None = Field(
        SaliencyConfig(), description="saliency of the classifier, to hold the counterfactuals against; null for none"
    )
    measures: MeasureConfig = Field(MeasureConfig(), description="what the counterfactuals are measured with")
    canary: Canary | None = Field(None, description="a planted and a clean twin, audited alike: what can this audit see?")
    margin: float = Field(0.1, gt=0, description="an effect inside +- this is too small to matter")
    gate: Policy | None = Field(None, description="what it must not do; default: as the run is held to already")
    thumbnails: bool = Field(
        True, description="show pictures in the report, the explorer and Prefect's pages; other than before, it is another run"
    )
    shard_size: int = Field(64, ge=1, description="images a shard: the unit of work, of resuming and of storage")
    batch_size: int = Field(
        64, ge=1, description="images a forward pass; a CPU explains one at a time, so that results do not depend on it"
    )
    workers: int | None = Field(None, ge=1, description="shards at a time; default: one a CPU core, or one for a GPU")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["local", "dask", "ray"] = Field(
        "local", description="local: threads of one process; dask or ray: processes, here or of a cluster, one GPU a task"
    )
    cluster: str | None = Field(None, description="address of a Dask scheduler or Ray head that is there; default: started here")

    def result_hash(self, *more: str) -> str:
        """SHA-256 of the settings that results depend on, and of `more` (weights, data, code)."""
        settings = self.model_dump_json(exclude=WITHOUT_EFFECT)
        return hashlib.sha256("\0".join((settings, *more)).encode()).hexdigest()


def _resolved(told: Any, base: Path, place: tuple[str, ...] = ()) -> Any:
    """Relative paths made relative to `base`; `portraits:…` names something bundled."""
    if isinstance(told, dict):
        return {key: _resolved(value, base, (*place, str(key))) for key, value in told.items()}
    if isinstance(told, list):
        return [_resolved(value, base, place) for value in told]
    if place in PATHS and isinstance(told, str) and ":" not in told:
        return str((base / told).resolve())
    return told


def _settings() -> set[str]:
    """Every setting's name, of every section, for suggestions."""
    schema = AuditConfig.model_json_schema()
    return {name for part in (schema, *schema["$defs"].values()) for name in part.get("properties", {})}


def told_plainly(source: str, error: ValidationError) -> ConfigError:
    """pydantic's findings as lines that name place, value and way out."""
    lines = []
    for finding in error.errors():
        place = ".".join(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(finding["loc"][-1]), _settings(), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "remove it, or see docs/reference/config.md for what there is"
            lines.append(f"{source}: {place}: there is no such setting; {hint}")
        elif finding["type"] == "missing":
            lines.append(f"{source}: {place}: is required")
        else:
            lines.append(f"{source}: {place}: {finding['msg']} (got {finding['input']!r})")
    return ConfigError(re.sub(r"://[^/\s]+@", "://…@", "\n".join(lines)))  # a password is not repeated


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; see examples/ for a configuration to start from")
    try:
        told = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    if not isinstance(told, dict):
        raise ConfigError(f"{path}: expected settings like `name: ...`, got {type(told).__name__}")
    return told


def load_config(path: Path) -> AuditConfig:
    """Read and check one audit's YAML file. Raises ConfigError, one line a finding."""
    told = {"warehouse": "warehouse-data"} | _read_yaml(path)
    try:
        return AuditConfig.model_validate(_resolved(told, path.resolve().parent))
    except ValidationError as error:
        raise told_plainly(str(path), error) from None


def load_policy(path: Path) -> Policy:
    """Read and check a gate's rules from a YAML file. Raises ConfigError, one line a finding."""
    try:
        return Policy.model_validate(_read_yaml(path))
    except ValidationError as error:
        raise told_plainly(str(path), error) from None


Training = TypeVar("Training", bound=BaseModel)


def training_config(kind: type[Training], path: Path | None, preset: Mapping[str, Any] | None = None) -> Training:
    """The settings of a training from a YAML file, else of the preset, else its defaults. Raises ConfigError."""
    try:
        return kind.model_validate(dict(preset or {}) | (_read_yaml(path) if path is not None else {}))
    except ValidationError as error:
        raise told_plainly(str(path), error) from None


def guided_arguments(
    like: str | None, path: Path | None, num_heads: int | None, num_head_channels: int | None
) -> GuidedDiffusion:
    """The arguments of a guided-diffusion checkpoint: a published one's, changed by a YAML file and then by a head layout.

    Raises ConfigError for a checkpoint that is not known, and for arguments that do not make a network.
    """
    if like is not None and like not in PUBLISHED:
        raise ConfigError(f"--like: there is no {like!r}; there are {', '.join(PUBLISHED)}")
    if like is None and path is None:
        raise ConfigError(f"say how the checkpoint was trained: --like {', '.join(PUBLISHED)}, or --config with its arguments")
    told = (PUBLISHED[like].model_dump() if like else {}) | (_read_yaml(path) if path else {})
    if num_heads is not None or num_head_channels is not None:
        told |= {"num_heads": num_heads, "num_head_channels": num_head_channels}
    try:
        return GuidedDiffusion.model_validate(told)
    except ValidationError as error:
        raise told_plainly(str(path or "arguments"), error) from None


def annotations_of(columns: dict[str, Any]) -> Annotations:
    """A table and its columns, from the command line. Raises ConfigError."""
    try:
        return Annotations.model_validate(columns)
    except ValidationError as error:
        raise told_plainly("arguments", error) from None
