"""An audit with a prior over latents: what is checked, what makes it another run, what one shard of explanations holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cfx.attributes.interventions import Interventions, edit_alone
from cfx.diffusion.latent_prior import LatentPrior, is_generator
from cfx.images import decode_png
from cfx.portraits import write_portraits
from flows.paths import absolute
from tasks.check import check
from tasks.config import AuditConfig, PriorConfig
from tasks.cost import Counted
from tasks.run import Run
from tasks.stages.explain import explain
from tasks.stages.ingest import ingest
from tasks.stages.learn import Learned
from tasks.stages.predict import predict
from tasks.stages.prior import prior_fingerprint
from warehouse.facts.shards import read_shard
from warehouse.lens.connect import query


def config_of(folder: Path, **more: Any) -> AuditConfig:
    data = {"images": folder / "images", "table": folder / "attributes.csv", "label_column": "label"}
    settings = {
        "name": "latent",
        "warehouse": folder / "w",
        "data": data,
        "classifier": {"weights": "portraits:planted"},
        "judge": {"weights": "portraits:judge"},
        "oracle": {"weights": "portraits:oracle"},
        "prior": {"path": "portraits:text"},
        "interventions": {"images": 0},
        "device": "cpu",
    }
    return AuditConfig.model_validate(settings | more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("portraits")
    write_portraits(folder, 8, 31)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return check(config_of(folder))


def test_one_shard_of_explanations_and_what_is_told_of_the_autoencoder(run: Run) -> None:
    # its autoencoder folds pixels, and loses nothing
    (images,) = ingest(run)
    rows = read_shard(explain(run, images, predict(run, images), Learned())).to_pylist()
    assert {row["autoencoder_l1"] for row in rows} == {0.0}
    guided = [row for row in rows if row["arm"] == "guided"]
    assert len(guided) == 8 and sum(row["flipped_8bit"] for row in guided) >= 7
    assert max(row["nfe_forward"] for row in guided) <= 27 and {row["nfe_backward"] for row in rows} == {0}
    before = {row["image_id"]: row["png"] for row in read_shard(images, ["image_id", "png"]).to_pylist()}
    for row in rows:
        x, x_cf, mask = (decode_png([png]) for png in (before[row["image_id"]], row["png"], row["mask_png"]))
        assert 0 < row["mask_fraction"] < 0.7
        assert torch.equal(x[mask < 0], x_cf[mask < 0])  # in 8 bits, bit by bit
    told = {row["metric"]: row["value"] for row in query(run.root, "select metric, value from scorecard").to_pylist()}
    assert told["autoencoder_l1"] == 0 and 0 < told["l1_null"] < told["l1"]


def test_an_attribute_is_edited_alone_in_latents(run: Run) -> None:
    oracle, x = run.oracle(), decode_png([row["png"] for row in read_shard(ingest(run)[0], ["png"]).to_pylist()][:4])
    counted = Counted(run.denoiser().respaced(50))
    glasses = oracle.attributes.index("glasses")
    edit = edit_alone(counted, oracle, x, glasses, Interventions(), [f"image-{i}" for i in range(4)])
    assert counted.forward == 4 * 2 * Interventions().tau
    before, after, sham = ((oracle(image)[:, glasses] > 0.5) for image in (x, edit.x_edit, edit.x_sham))
    assert (after != before).float().mean() >= 0.75 and (sham == before).float().mean() >= 0.75
    outside = (edit.mask == 0).expand_as(x)
    assert torch.equal(edit.x_edit[outside], x[outside]) and torch.equal(edit.x_sham[outside], x[outside])


def test_what_is_drawn_is_part_of_the_runs_identity(run: Run, folder: Path) -> None:
    def known(**more: str) -> str:
        return prior_fingerprint(folder, PriorConfig.model_validate({"path": "portraits:text", **more}), "data")

    assert run.fingerprints["prior"] == known() == known(prompt="")
    assert len({known(), known(prompt="smile"), known(prompt="hat")}) == 3
    prompted = config_of(folder, prior={"path": "portraits:text", "prompt": "smile"})
    assert prompted.result_hash() != run.config.result_hash()
    assert isinstance(run.denoiser(), LatentPrior) and run.denoiser().size == (64, 64)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a method of pixels": ({"ladder": [{"method": "ace"}]}, "prior: method 'ace' attacks pixels, and this prior draws latents"),
    "a compiled UNet": (
        {"prior": {"path": "portraits:text", "runtime": "onnxruntime"}},
        "runtime: onnxruntime computes priors of images, and .*text draws latents; leave `runtime` out",
    ),
    "a prompt for a prior of images": (
        {"prior": {"path": "portraits:prior", "prompt": "hat"}},
        "prompt: .* is a prior of images",
    ),
    "no prompts of classes": (
        {
            "ladder": [{"method": "maskdime", "consensus": 45}],
            "prior": {"path": "portraits:text", "class_prompts": {"smiling": "smile"}},
        },
        "add not_smiling to `prior.class_prompts`",
    ),
    "a prompt that is too long": ({"prior": {"path": "portraits:text", "prompt": "hat " * 40}}, "a prompt takes 42 tokens"),
}


@pytest.mark.parametrize(("more", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_before_work(folder: Path, more: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words) as refusal:
        check(config_of(folder, **more))
    assert type(refusal.value).__name__ == "ConfigError"


def test_a_generator_is_told_by_its_folder_and_what_is_trained_here_is_none(folder: Path) -> None:
    with pytest.raises(ValidationError, match="prompt, guidance: is of a generator, and not of a prior that is trained here"):
        PriorConfig.model_validate({"train": {}, "prompt": "hat", "guidance": 2.0})
    assert is_generator(Path("stabilityai/sd-turbo")) and not is_generator(folder) and not is_generator(Path("/no/folder"))


def test_a_generators_files_are_relative_to_the_yaml_and_a_hubs_id_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "weights.safetensors").touch()
    prior = {"path": "mine", "lora": ["weights.safetensors", 0.5], "decoder": "./tiny", "network": "owner/name"}
    found = absolute(AuditConfig, {"prior": prior}, tmp_path)["prior"]
    assert found == {
        "path": str(tmp_path / "mine"),
        "lora": [str(tmp_path / "weights.safetensors"), 0.5],
        "decoder": str(tmp_path / "tiny"),
        "network": "owner/name",
    }
