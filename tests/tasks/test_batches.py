"""Training batches from a folder: the same as from memory, whoever reads them and wherever a training goes on."""

from pathlib import Path

import pytest
import torch

from cfx.diffusion.ddpm import Schedule, load_ddpm, save_ddpm
from cfx.diffusion.distillation import Distillation
from cfx.diffusion.training import PriorTraining, build_unet
from cfx.portraits import write_portraits
from tasks.training.batches import FolderBatches, batches_of, read_square
from tasks.training.folder_images import FolderImages, folder_images
from tasks.training.from_folder import distilled_from_images

CONFIG = PriorTraining(size=16, batch=4, steps=6)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    write_portraits(tmp_path, 10, seed=0)
    return folder_images(tmp_path).files


def test_images_on_disk_and_in_memory_give_the_same_batches(files: list[Path]) -> None:
    memory = batches_of(torch.stack([read_square(file, 16) for file in files]), CONFIG)
    disk = FolderBatches(files, CONFIG, 0)
    for step in (0, 1, 2, 3, 2, 5):  # in turn, back, and on from the middle, as after a kill
        torch.testing.assert_close(disk(step), memory(step), rtol=0, atol=0)
    epoch = torch.cat([memory(step) for step in range(5)])  # 20 images: each of the 10 twice
    assert len(torch.unique(epoch.flatten(1), dim=0)) == 10


def test_images_are_read_when_they_are_needed(files: list[Path]) -> None:
    batches = FolderBatches(files, CONFIG, 0)
    batches(0)
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 10 files is an image that can be read"):
        batches(1)


def test_a_file_that_cannot_be_read_is_replaced_by_the_next(files: list[Path]) -> None:
    files[3].write_bytes(b"broken")
    found = torch.cat([FolderBatches(files, CONFIG, 0)(step) for step in range(5)])
    expected = torch.stack([read_square(file, 16) for i, file in enumerate(files) if i != 3]).float() / 127.5 - 1
    assert len(torch.unique(torch.cat([found, expected]).flatten(1), dim=0)) == 9
    assert (found == expected[3]).flatten(1).all(1).sum() == 4  # the fifth file, its own two times and the fourth's


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no image to train on: .* has no file that is one"):
        folder_images(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        folder_images(tmp_path / "nowhere")


def test_a_prior_is_distilled_on_a_folder_at_its_own_size(files: list[Path], tmp_path: Path) -> None:
    shape = PriorTraining(size=16, patch=2, channels=(32, 32))
    save_ddpm(tmp_path / "teacher", build_unet(shape), Schedule(prediction_type="sample"))
    config = Distillation(steps=3, halvings=1, updates=2, batch=2)
    steps: list[int] = []
    folder = distilled_from_images(
        FolderImages(files), str(tmp_path / "teacher"), config, tmp_path / "student", lambda step, loss: steps.append(step), 0
    )
    student = load_ddpm(folder)
    assert isinstance(student.schedule, Schedule)
    assert steps == [1, 2] and student.size == (16, 16) and student.schedule.distilled_steps == 3
