"""`AuditConfig`: everything an audit needs, checked before any work. Each section stands where its parts are defined, or here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from cfx.attributes.interventions import Interventions
from cfx.attributes.words import AnyOracle
from cfx.autoencoder import AutoencoderTraining
from cfx.beside import look_beside
from cfx.classifiers import AnyClassifier, ClassifierConfig
from cfx.credentials import refuse_credentials
from cfx.diffusion.forward_passes import Precision
from cfx.diffusion.latent_model import Conditioning, Parts
from cfx.diffusion.runtimes import Runtime, check_together
from cfx.diffusion.training import PriorTraining, suited_to
from cfx.errors import UserError
from cfx.images import height_and_width
from cfx.methods.ace import ACE
from cfx.methods.blended import Blended
from cfx.methods.dime import DiME, FastDiME
from cfx.methods.dvce import DVCE
from cfx.methods.maskdime import MaskDiME
from cfx.methods.svce import SVCE
from cfx.methods.textual_inversion import TokenTraining
from cfx.methods.time_edit import TIME
from cfx.paths import PATH, ModelName
from cfx.presets import named
from cfx.saliency.maps import Saliency
from cfx.training.classifier import ClassifierTraining
from cfx.types import Config
from tasks.data.ingest import DataConfig
from tasks.reading.gate import Policy
from tasks.reading.publishing import Publishing
from tasks.reading.report_url import ReportUrl
from warehouse.facts.storage import warehouse_at

Method = Annotated[DiME | FastDiME | MaskDiME | ACE | DVCE | SVCE | Blended | TIME, Field(discriminator="method")]
Ladder = Annotated[tuple[Method, ...], Field(min_length=1), BeforeValidator(named)]  # or a preset's name


AUTO = "auto"  # train it here, from the audit's own data
TRAINED_HERE = Path(AUTO)  # the weights of a network that is trained before the audit and has no file yet

WITHOUT_EFFECT: Any = {  # on results: where, how fast and how often, what is allowed, and what people call things
    **dict.fromkeys(("warehouse", "gate", "base", "labels", "report_url", "publish"), True),
    **dict.fromkeys(("batch_size", "workers", "device", "engine", "cluster"), True),
    **{who: {"limits", "auth", "ca"} for who in ("classifier", "judge")},
}


# A folder or a URL; never with credentials, because a configuration is kept among the facts.
WarehousePath = Annotated[
    Path, PlainValidator(warehouse_at), PlainSerializer(str), WithJsonSchema({"type": "string", "format": PATH})
]


class PriorConfig(Conditioning, Parts):
    """Either a trained prior or the way to train one. What it is asked to draw, and what is put on it, is of generators alone."""

    path: ModelName | None = Field(
        None,
        description="a folder in diffusers' format: a UNet of images, or a generator with an autoencoder (model_index.json), of "
        "which a hub's id will do; `portraits:prior` and `portraits:text` come with cfx",
    )
    revision: str | None = Field(None, description="of a hub's id: a commit, branch or tag; only a commit stays the same")
    train: PriorTraining | None = None  # train it from the audited images, once a data set and configuration
    class_prompts: dict[str, str] = Field(
        {}, description="of a generator that reads prompts, the prompt of every class: what a method's `consensus` asks it about"
    )
    runtime: Runtime = Field(
        "torch",
        description="what evaluates the UNet where no gradient passes through it: onnxruntime, faster on a CPU, needs the extra "
        "`fast`; torch.compile, for a GPU, needs a compiler; images differ by rounding (docs/explanation/speed.md)",
    )
    precision: Precision = Field(
        "float32",
        description="of the UNet where no gradient passes through it; bfloat16: for a GPU, slower on most CPUs, images differ "
        "visibly (docs/explanation/speed.md)",
    )

    @model_validator(mode="after")
    def _one_of(self) -> PriorConfig:
        if (self.path is None) == (self.train is None):
            raise UserError("give either `path` (a trained prior) or `train` (how to train one), not both and not neither")
        check_together(self.runtime, self.precision)
        if self.train is not None and (said := self.of_generators):
            raise UserError(f"{', '.join(said)}: is of a generator, and not of a prior that is trained here; leave it out")
        return self

    @property
    def conditioning(self) -> Conditioning:
        """What a generator is asked to draw."""
        return Conditioning.model_validate({name: getattr(self, name) for name in Conditioning.model_fields})

    @property
    def parts(self) -> Parts:
        """What is put on a generator."""
        return Parts.model_validate({name: getattr(self, name) for name in Parts.model_fields})

    @property
    def of_generators(self) -> list[str]:
        """The settings that are not as they are by default, and mean nothing to a prior of images."""
        usual = PriorConfig.model_fields
        names = ("revision", "class_prompts", *Conditioning.model_fields, *Parts.model_fields)
        return [name for name in names if getattr(self, name) != usual[name].default]


class WordsConfig(Config):
    """For the method `time`: which text-to-image model, and how its new words are learned."""

    model: ModelName = Field(description="a folder or hub id in Stable Diffusion's format; `portraits:text` comes with cfx")
    begin: str = Field("photo", description="the word that new words begin as")
    training: TokenTraining = Field(TokenTraining(), description="of three context words, then of three words a class")


class SaliencyConfig(Config):
    """Saliency of the classifier under audit, to hold the counterfactuals against. A black box has none."""

    maps: tuple[Saliency, ...] = Field(
        (),
        description="default: a HiT's own account, Grad-CAM for other torch classifiers, integrated gradients for those without "
        "a layer that covers the final features",
    )
    regions: Path | None = Field(
        None,
        description="folder of what is known of where attributes show: `<attribute>/<file>.png`, black where it does not, with "
        "the path of the image; maps and counterfactuals are graded against it",
    )


class MeasureConfig(Config):
    """What counterfactuals are measured with. Files are published weights, none of which comes with cfx; without one, the metrics
    that need it are absent, and said to be."""

    cout: bool | None = Field(
        None, description="COUT: 52 queries of the classifier per explanation; default: only of a classifier in this process"
    )
    insertion_deletion: bool = Field(False, description="insertion and deletion by the change map: 36 questions per explanation")
    autoencoders: AutoencoderTraining | None = Field(
        None, description="IM1 and IM2: trained on the audited images, one autoencoder a class; `{}` for the defaults"
    )
    inception: Path | None = Field(None, description="pytorch-fid's pt_inception-2015-12-05-6726825d.pth: FID, sFID, KID")
    vggface2: Path | None = Field(None, description="VGGFace2-pytorch's resnet50_ft_weight.pkl: FVA, FS")
    simsiam: Path | None = Field(None, description="SimSiam's checkpoint_0099.pth.tar: S3")
    vgg16: Path | None = Field(None, description="torchvision's vgg16-397923af.pth: LPIPS and diversity")
    alexnet: Path | None = Field(None, description="torchvision's alexnet-owt-7be5be79.pth: LPIPS as DVCE reports it")


class Canary(Config):
    """Two twins of the classifier under audit, of the same classes: one trained to lean on a known attribute, one not."""

    planted: ClassifierConfig = Field(description="the twin that leans on `attribute`")
    clean: ClassifierConfig = Field(description="the twin that leans on nothing but what it should")
    attribute: str = Field(description="the oracle's attribute that the planted twin leans on")


class AuditConfig(BaseModel):
    """One audit. Relative paths are relative to the YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)  # may hold a secret

    name: str = Field(
        "audit",
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="what the run is called: lower case, digits, dashes; default: as its YAML file",
    )
    warehouse: WarehousePath = Field(
        Path("warehouse-data"), description="where facts and reports are kept: a folder, or a URL such as s3://bucket/prefix"
    )
    data: DataConfig
    classifier: AnyClassifier = Field(description="the classifier under audit")
    judge: AnyClassifier | None = Field(
        None,
        description="a second classifier of the same task, never used for guidance; `auto`: trained on the labels of the table's "
        "images that are not audited, once, and kept in the warehouse",
    )
    oracle: AnyOracle | None = Field(
        None,
        description="names the attributes of an image, trained on annotations or by words; without one, nothing is said of "
        "attributes and none is edited; `auto`: trained on every yes/no column of the table, as `judge: auto` on the labels",
    )
    prior: PriorConfig | None = Field(
        None,
        description="the diffusion model that draws; without one there are no counterfactuals and no edits by gradient; `auto`: "
        "trained on the audited images, with a size and steps that suit them",
    )
    surrogate: ClassifierTraining | None = Field(
        None, description="for a black box: how to train the network that guides the ladder, on the images and its answers"
    )
    words: WordsConfig | None = Field(
        None, description="for the method time: its text-to-image model, and how words are learned from the predictions"
    )
    target: str = Field(
        "opposite",
        description="opposite (of two classes), second-best, each (of the other classes, evenly over the images), "
        "nearest-in-hierarchy, most-confused (by these images' labels), or a class to ask for",
    )
    hierarchy: dict[str, tuple[str, ...]] | None = Field(
        None, description="for nearest-in-hierarchy: class -> names from the root down to its parent"
    )
    target_attribute: str | None = Field(
        None, description="the oracle's attribute that is the label itself; left out of rankings"
    )
    ladder: Ladder = Field(
        "default",
        validate_default=True,
        description="method configurations, tried in turn on the images that did not flip; or a preset: default, dime/celeba …",
    )
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    interventions: Interventions = Field(Interventions(), description="edits of one attribute alone, to tell cause from company")
    saliency: SaliencyConfig | None = Field(
        SaliencyConfig(), description="saliency of the classifier, to hold the counterfactuals against; null for none"
    )
    masks: Path | None = Field(
        None,
        description="folder of the parts of the images, `<part>/<file>.png`, black where it is not, with the path of the image: "
        "each part, and the rest, is exchanged between images as the cells of the grid are",
    )
    measures: MeasureConfig = Field(MeasureConfig(), description="what the counterfactuals are measured with")
    canary: Canary | None = Field(None, description="a planted and a clean twin, audited alike: what can this audit see?")
    margin: float = Field(0.1, gt=0, description="an effect inside +- this is too small to matter")
    gate: Policy | None = Field(None, description="what it must not do; default: as the run is held to already")
    labels: dict[str, str] = Field(
        {},
        description="what people call classes, attributes and properties of an image, in the report and in sentences: "
        "`{not_smiling: not smiling}`; default: underscores as spaces. Facts, SQL and JSON keep the names of the data",
    )
    base: str | None = Field(
        None,
        description="an earlier run in this warehouse: attributes whose edits move its answer are edited here, too, and the gate "
        "holds this run against it, as `cfx gate --against`; default: as it is held already, or the one of this name before",
    )
    report_url: ReportUrl | None = Field(
        None,
        description="where people open the report, for the link in Prefect: the address of the folder `reports` "
        "(https://host/reports/), or one with `{run}` in it, such as the explorer's (http://host:8100/runs/{run}/report)",
    )
    publish: Publishing | None = Field(None, description="where its results are put when it is done, besides the warehouse")
    thumbnails: bool = Field(
        True, description="show images in the report, the explorer and Prefect's pages; other than before, it is another run"
    )
    shard_size: int = Field(64, ge=1, description="images a shard: the unit of work, of resuming and of storage")
    batch_size: int = Field(
        64,
        ge=1,
        description="images a forward pass; a CPU explains in a size of its own, on which its results do not depend; a GPU's do, "
        "by rounding",
    )
    workers: int | None = Field(None, ge=1, description="shards at a time; default: one a CPU core, or one for a GPU")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["local", "dask", "ray"] = Field(
        "local", description="local: threads of one process; dask or ray: processes, here or of a cluster, one GPU a task"
    )
    cluster: str | None = Field(None, description="address of a Dask scheduler or Ray head that is there; default: started here")

    _folder: Path | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, values: Any) -> Any:
        refuse_credentials(values)
        return values

    @model_validator(mode="before")
    @classmethod
    def _auto_prior(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("prior") != AUTO:
            return values
        data = values.get("data")
        size = data.get("size", 64) if isinstance(data, dict) else getattr(data, "size", 64)
        try:
            training = suited_to(*height_and_width(tuple(size) if isinstance(size, list) else size))
        except (TypeError, ValueError):  # no size: `data.size` says so
            training = PriorTraining()
        return values | {"prior": {"train": training}}

    @field_validator("oracle", "judge", mode="before")
    @classmethod
    def _auto_network(cls, value: Any) -> Any:
        return {"weights": TRAINED_HERE} if value == AUTO else value

    def beside(self, folder: Path) -> AuditConfig:
        """This configuration as one that was read in this folder: the user's modules are looked for there first."""
        look_beside(folder)
        read = self.model_copy()
        read._folder = folder
        return read

    @property
    def folder(self) -> Path | None:
        """Where it was read; None for one that was made in a program."""
        return self._folder

    def result_hash(self, *more: str) -> str:
        """SHA-256 of the settings that results depend on, and of `more` (weights, data, code)."""
        settings = self.model_dump_json(exclude=WITHOUT_EFFECT)
        return hashlib.sha256("\0".join((settings, *more)).encode()).hexdigest()
