"""EDICT's worked numbers and exact inverse; words that alone are learned; TIME on a folder in Stable Diffusion's format."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from cfx.attributes.named_edits import NamedEdits, edit_by_word
from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.diffusion.ddpm import load_ddpm
from cfx.diffusion.latent import LatentDiffusion, load_latent
from cfx.diffusion.text_to_image import TextTraining, train_text_to_image
from cfx.methods.edict import Edict, Pair
from cfx.methods.textual_inversion import (
    Tokens,
    TokenTraining,
    add_tokens,
    check_prompt,
    learn_tokens,
    load_tokens,
    save_tokens,
    start_from,
)
from cfx.methods.time_edit import TIME, Inversions, time_edit
from cfx.portraits import ATTRIBUTES, WORDS, attribute_weights, draw, render, write_portraits
from cfx.training.resume import Checkpoint
from tasks.stages.prompts import check_named
from tests.cfx.tiny_sd import WIDTH, write_pipeline

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
SCHEDULE = Edict((1 - BETAS).cumprod(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("sd") / "model")


@pytest.fixture
def model(folder: Path) -> LatentDiffusion:
    return load_latent(str(folder))


def image(n: int = 1, side: int = 32) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(n)) * 2 - 1


def portraits(n: int) -> Tensor:
    pixels = np.stack([render(portrait) for _, portrait in draw(n, seed=1)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1


def warm(images: np.ndarray) -> np.ndarray:
    """A black box: redder than the middle of a bundle of portraits, or not."""
    red = 1 / (1 + np.exp(-40 * (images[:, 0].mean((1, 2)) - images[:, 2].mean((1, 2)) - 0.32)))
    return np.stack([1 - red, red], axis=1)


def curved(z: Tensor, t: int) -> Tensor:
    """A noise that depends on place and time, as a network's does."""
    return (z * (1 + t / 1000)).sin() + z.mean()


def test_the_schedule_has_the_worked_numbers() -> None:
    assert [SCHEDULE.timestep(k) for k in (0, 1, 24, 49)] == [1, 21, 481, 981]
    levels = [float(SCHEDULE.alphas_cumprod[t]) for t in (0, 1, 21, 481, 499, 999)]
    assert levels == pytest.approx([0.99915, 0.998296, 0.9803807, 0.3022957, 0.2776697, 0.0046601], abs=5e-7)
    assert SCHEDULE.coefficients(24) == pytest.approx((1.04615672, -0.05582253), abs=5e-9)  # 481 -> 461
    assert SCHEDULE.coefficients(0) == pytest.approx((1.00042762, -0.01214209), abs=5e-9)


def test_one_step_by_hand() -> None:
    # Noise 1 everywhere; then p = .93 of a and .07 of b, and .93 of b and .07 of the new a.
    (scale, weight), one = SCHEDULE.coefficients(24), torch.ones(1, 1, 1, 1)
    a, b = scale * 2 + weight, scale * 3 + weight
    a = 0.93 * a + 0.07 * b
    b = 0.93 * b + 0.07 * a
    found = SCHEDULE.down(lambda z, t: one, Pair(2 * one, 3 * one), 24)
    assert [float(z) for z in found] == pytest.approx([a, b], rel=1e-6)


@pytest.mark.parametrize(
    ("tau", "dtype", "error"), [(1, torch.float32, 1e-5), (35, torch.float32, 1e-5), (50, torch.float64, 1e-11)]
)
def test_inversion_is_exact_up_to_rounding(tau: int, dtype: torch.dtype, error: float) -> None:
    z = torch.randn(2, 4, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
    deep = SCHEDULE.invert(curved, Pair(z, z), tau)
    back = SCHEDULE.denoise(curved, deep[-1], tau)
    assert len(deep) == tau + 1
    assert max(float((side - z).abs().max()) for side in back) <= error
    assert float((deep[-1].a - z).abs().max()) > 1e-3  # it went somewhere


def test_an_inversion_goes_on_where_a_shorter_one_stopped() -> None:
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = SCHEDULE.invert(curved, Pair(z, z), 35)
    steps: list[int] = []

    def counted(z: Tensor, t: int) -> Tensor:
        steps.append(t)
        return curved(z, t)

    gone_on = SCHEDULE.invert(counted, Pair(z, z), 35, SCHEDULE.invert(curved, Pair(z, z), 25))
    assert all(torch.equal(x, y) for one, other in zip(whole, gone_on, strict=True) for x, y in zip(one, other, strict=True))
    assert len(steps) == 2 * 10
    assert len(SCHEDULE.invert(counted, Pair(z, z), 20, whole)) == 21 and len(steps) == 20  # and a shallower one costs nothing


def test_a_folder_in_stable_diffusions_format_goes_there_and_back(model: LatentDiffusion) -> None:
    x = image()
    assert model.side == 32 and model.encode(x).shape == (1, 4, 8, 8)
    assert model.decode(model.encode(image(side=48)), 48).shape == (1, 3, 48, 48)
    edict, (here, there) = Edict(model.alphas_cumprod), (model.embed([words]) for words in ("a photo with a smile", "a photo"))

    def noise(z: Tensor, t: int) -> Tensor:
        return model.guided(z, t, here, there, 1.0)

    with torch.no_grad():
        z = model.encode(x)
        back = edict.denoise(noise, edict.invert(noise, Pair(z, z), 25)[-1], 25)
    assert float((back.a - z).abs().max()) <= 1e-5 and float((back.b - z).abs().max()) <= 1e-5


def test_velocity_is_read_as_noise(tmp_path: Path, model: LatentDiffusion) -> None:
    velocity = load_latent(str(write_pipeline(tmp_path / "v", "v_prediction")))
    z, prompt = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), model.embed(["a photo"])
    level = model.alphas_cumprod[481].float()
    with torch.no_grad():  # the same weights, read as v = sqrt(abar) eps - sqrt(1 - abar) x0
        expected = level.sqrt() * model.noise(z, 481, prompt) + (1 - level).sqrt() * z
        torch.testing.assert_close(velocity.noise(z, 481, prompt), expected)


def test_only_the_new_rows_move(model: LatentDiffusion) -> None:
    tokens = start_from(model, ["<c1>", "<c2>"], ["realistic", "portrait"])
    ids = add_tokens(model, tokens)
    before = model.text_encoder.get_input_embeddings().weight.detach().clone()
    assert torch.equal(before[ids], tokens.embeddings)
    weights = [value.clone() for value in model.unet.state_dict().values()]
    losses: list[float] = []
    training = TokenTraining(steps=8, batch=4, at_once=2, weight_decay=10.0)
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    learned = learn_tokens(model, images, tokens, ["a <c1> <c2> photo"], training, lambda step, loss: losses.append(loss))
    after = model.text_encoder.get_input_embeddings().weight.detach()
    old = [i for i in range(len(after)) if i not in ids]
    assert torch.equal(after[old], before[old]) and not torch.equal(after[ids], before[ids])
    assert torch.equal(learned.embeddings, after[ids]) and learned.words == ("<c1>", "<c2>")
    assert all(torch.equal(a, b) for a, b in zip(weights, model.unet.state_dict().values(), strict=True))
    assert len(losses) == 8 and not after.requires_grad


def test_images_at_once_do_not_change_what_is_learned(folder: Path) -> None:
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = []
    for at_once in (4, 3):
        model = load_latent(str(folder))
        training = TokenTraining(steps=2, batch=4, at_once=at_once)
        found.append(learn_tokens(model, images, start_from(model, ["<c1>"], ["photo"]), ["a <c1>", "<c1>"], training))
    torch.testing.assert_close(found[0].embeddings, found[1].embeddings, atol=1e-5, rtol=0)
    begun = start_from(load_latent(str(folder)), ["<c1>"], ["photo"])
    assert not torch.allclose(found[0].embeddings, begun.embeddings, atol=1e-3)


def test_threads_share_a_tokenizer(model: LatentDiffusion) -> None:
    def lengths(i: int) -> set[int]:
        return {model.token_ids(["photo " * (1 + (i + j) % 5), "photo"]).shape[1] for j in range(40)}

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lengths, range(8))) == [{model.tokenizer.model_max_length}] * 8


def test_words_that_are_not_one_token_are_refused(model: LatentDiffusion) -> None:
    with pytest.raises(ValueError, match="'extraordinary' is .* tokens of this model"):
        start_from(model, ["<c1>"], ["extraordinary"])
    tokens = start_from(model, ["<c1>"], ["photo"])
    with pytest.raises(ValueError, match="learned word '<c1>' is not one token"):
        check_prompt(model, "a <c1> photo", tokens)  # not added yet
    add_tokens(model, tokens)
    check_prompt(model, "a <c1> photo", tokens)
    with pytest.raises(ValueError, match="not one token of the prompt 'a photo'"):
        check_prompt(model, "a photo", tokens)
    with pytest.raises(ValueError, match=f"are {WIDTH} wide; the tokens were learned with another model"):
        add_tokens(model, Tokens(("<x>",), torch.zeros(1, 768)))
    with pytest.raises(ValueError, match="takes .* tokens, but the text encoder reads 32"):
        model.token_ids(["photo " * 40])


def test_a_released_token_file_with_quotes_in_its_words_loads_with_a_warning(
    tmp_path: Path, model: LatentDiffusion, caplog: pytest.LogCaptureFixture
) -> None:
    embeddings = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(0))
    torch.save({"embs": embeddings, "words": ["'|<C*1>|", "|<C*2>|", "|<C*3>|'"]}, tmp_path / "context.pth")
    with caplog.at_level(logging.WARNING):
        tokens = load_tokens(tmp_path / "context.pth")
    assert tokens.words == ("|<C*1>|", "|<C*2>|", "|<C*3>|")
    assert "quote characters removed" in caplog.text and "context.pth" in caplog.text
    ids = add_tokens(model, tokens)
    check_prompt(model, f"a {tokens.phrase} photo", tokens)
    assert torch.equal(model.text_encoder.get_input_embeddings().weight[ids], embeddings)
    caplog.clear()
    again = load_tokens(save_tokens(tmp_path / "again.pth", tokens))
    assert again.words == tokens.words and torch.equal(again.embeddings, embeddings) and not caplog.text
    torch.save([1], tmp_path / "other.pth")
    with pytest.raises(ValueError, match="is no token file"):
        load_tokens(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match="no token file"):
        load_tokens(tmp_path / "none.pth")


def test_time_changes_the_prompt_and_a_deeper_retry_gives_what_it_gives_afresh(model: LatentDiffusion) -> None:
    x, source, target = image(2), ["a photo with a smile"] * 2, ["a serious photo"] * 2
    ids = ["one", "other"]
    shallow, deep = (TIME(tau=tau, steps=10, scale=3) for tau in (2, 4))
    kept: Inversions = {}
    time_edit(model, x, source, target, shallow, ids, kept)
    retried = time_edit(model, x, source, target, deep, ids, kept)
    afresh = time_edit(model, x, source, target, deep, ids, {})
    assert torch.equal(retried.x_cf, afresh.x_cf) and retried.x_cf.shape == x.shape and retried.mask is None
    alone = time_edit(model, x[1:], source[1:], target[1:], deep, ids[1:], {})
    torch.testing.assert_close(alone.x_cf, afresh.x_cf[1:], atol=1e-5, rtol=0)
    same = time_edit(model, x, source, source, deep, ids, {})
    torch.testing.assert_close(same.x_cf, model.decode(model.encode(x), 32), atol=1e-4, rtol=0)  # no change wanted, none made
    assert float((afresh.x_cf - same.x_cf).abs().max()) > 1e-4


def test_a_text_to_image_model_grows_from_the_prior_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    prior, x = Path(__file__).parents[2] / "cfx/weights/portraits/prior", portraits(1)
    training = TextTraining(steps=2, batch=1, learning_rate=1e-9, kept_rate=1e-9, checkpoint_every=1)
    seen: list[int] = []

    def batches(step: int) -> tuple[Tensor, list[str]]:
        seen.append(step)
        if seen == [0, 1]:
            raise KeyboardInterrupt
        return x, ["a photo"]

    weights = torch.ones(64, 64)
    with pytest.raises(KeyboardInterrupt):
        train_text_to_image(batches, ("a", "photo"), prior, training, tmp_path / "t", weights)
    grown = load_latent(str(train_text_to_image(batches, ("a", "photo"), prior, training, tmp_path / "t", weights)))
    assert seen == [0, 1, 1] and not (tmp_path / "t/checkpoint.pt").exists()
    assert grown.side == 64 and torch.equal(grown.decode(grown.encode(x), 64), x)
    before, t, z = (
        load_ddpm(prior),
        300,
        grown.encode(x).double(),
    )  # its weights are kept, new parts add nothing
    level = grown.alphas_cumprod[t]
    with torch.no_grad():
        clean = ((z - (1 - level).sqrt() * grown.noise(z, t, grown.embed(["a photo"]))) / level.sqrt()).float()
    assert float((clean - pixel_unshuffle(before.predict(pixel_shuffle(z.float(), 4), torch.tensor([t])), 4)).abs().mean()) < 0.05
    with pytest.raises(ValueError, match="belongs to another configuration"):
        Checkpoint(tmp_path / "c.pt", TextTraining(seed=1)).keep(1)
        Checkpoint(tmp_path / "c.pt", TextTraining(seed=2)).restore()


def test_attributes_weigh_the_same_over_the_image() -> None:
    weights = attribute_weights(3, seed=0)
    assert weights.shape == (64, 64) and float(weights.mean()) == pytest.approx(1)
    assert float(weights[0, 0]) < 1 < float(weights.max())  # a corner is background alone; a mouth is a smile


@pytest.mark.long
def test_the_bundled_model_loads_in_a_process_that_imported_nothing_else() -> None:
    code = "from cfx.diffusion.latent import load_latent; print(load_latent('portraits:text').side)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert answer.stdout.split() == ["64"], answer.stderr
    assert "Loading" not in answer.stderr and "Expected" not in answer.stderr  # the libraries keep their bars and remarks


def test_the_bundled_model_is_inverted_exactly_and_continues_where_it_stopped() -> None:
    bundled, x = load_latent("portraits:text"), portraits(1)
    here, there = bundled.embed(["a photo with a smile"]), bundled.embed(["a photo"])

    def noise(z: Tensor, t: int) -> Tensor:
        return bundled.guided(z, t, here, there, 3.0)

    edict, z = Edict(bundled.alphas_cumprod, 50), bundled.encode(x).double()
    with torch.no_grad():
        depths = edict.invert(noise, Pair(z, z), 20)
        back = edict.denoise(noise, depths[-1], 20)
        resumed = edict.invert(noise, Pair(z, z), 20, depths[:13])
    assert max(float((part - z).abs().max()) for part in back) <= 1e-5
    assert all(torch.equal(*pair) for pair in zip(depths[-1], resumed[-1], strict=True))


def test_an_edit_by_word_does_what_it_says_and_little_else() -> None:
    oracle, x = load_oracle(OracleConfig(weights=Path("portraits:oracle"))), portraits(3)
    named, beard = NamedEdits(model="portraits:text", words=dict(WORDS)), ATTRIBUTES.index("beard")
    edit = edit_by_word(load_latent("portraits:text"), oracle, x, beard, named, ["a", "b", "c"])
    before, after = oracle(x) > 0.5, oracle(edit.x_edit) > 0.5
    assert (after[:, beard] != before[:, beard]).sum() >= 2
    others = [i for i in range(len(ATTRIBUTES)) if i != beard]
    assert float((after == before)[:, others].float().mean()) >= 0.9
    assert torch.equal(edit.x_sham, x)  # nothing but rounding is lost by folding, and there is none
    with pytest.raises(ValueError, match="'beard' has no word"):
        edit_by_word(
            load_latent("portraits:text"), oracle, x, beard, NamedEdits(model="x", words={"hat": "hat"}), ["a", "b", "c"]
        )


def test_words_for_edits_are_checked() -> None:
    with pytest.raises(ValueError, match="does not know hats"):
        check_named(NamedEdits(model="x", words={"hats": "hat"}), ATTRIBUTES, "smile", "cpu")
    with pytest.raises(ValueError, match="no word for glasses, beard"):
        check_named(NamedEdits(model="x", words={"hat": "hat"}), ("smile", "glasses", "hat", "beard"), "smile", "cpu")


def test_a_model_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no text-to-image model.*model_index.json"):
        load_latent(str(tmp_path / "nowhere"))


@pytest.mark.long  # the method itself: tests/flows/test_black_box_audit.py
def test_the_example_learns_words_from_a_black_boxs_predictions_and_edits_images(tmp_path: Path, folder: Path) -> None:
    write_portraits(tmp_path / "data", 8, seed=0)
    settings = {
        "name": "trial",
        "data": {"images": "data/images", "table": "data/attributes.csv", "label_column": "label", "size": 32},
        "classifier": {"access": "callable", "module": "tests.cfx.test_time:warm", "classes": ["cold", "warm"]},
        "oracle": {"weights": "portraits:oracle"},
        "prior": {"path": "portraits:prior"},
        "ladder": [{"method": "fastdime"}],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    script = Path(__file__).parents[2] / "examples" / "edit_with_time.py"
    arguments = ["--model", str(folder), "--out", str(tmp_path / "time"), "--images", "2", "--device", "cpu"]
    command = [
        sys.executable,
        str(script),
        str(tmp_path / "run.yaml"),
        *arguments,
        "--learn",
        "2",
        "--batch",
        "2",
        "--steps",
        "4",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=script.parents[1], env=os.environ | {"PYTHONPATH": "."})
    assert answer.returncode == 0 and " of 2 flipped" in answer.stdout, answer.stderr
    assert sorted(path.name for path in (tmp_path / "time/tokens").iterdir()) == ["class-0.pth", "class-1.pth", "context.pth"]
    assert len(list((tmp_path / "time/edits").glob("*.png"))) == 2
    assert not torch.equal(*(load_tokens(tmp_path / f"time/tokens/class-{i}.pth").embeddings for i in (0, 1)))
