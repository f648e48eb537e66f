"""Proposals: the word that a classifier leans on comes first, what is named already is left out, and all are hypotheses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from cfx.attributes.words import WordsOracleConfig
from cfx.errors import UserError
from cfx.evidence.proposals import propose
from cfx.portraits import write_portraits
from flows.cli import app
from tasks.advice.propose import propose_words, subject_of
from tasks.data.ingest import DataConfig
from tasks.stages.predict import predict
from tasks.stages.run_record import start_run
from tests.captioning import Chat, serving
from tests.runs import ingested, run_of

WORDS = {
    "glasses": ["a person wearing glasses", "a person without glasses"],
    "hat": ["a person wearing a hat", "a person without a hat"],
    "warm_background": ["a face on a warm background", "a face on a cold background"],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the planted twin, which leans on glasses: ingested and predicted, its table without an attribute."""
    folder = tmp_path_factory.mktemp("proposals")
    write_portraits(folder / "data", 96, 78)
    data = {
        "images": folder / "data/images",
        "table": folder / "data/attributes.csv",
        "label_column": "label",
        "attribute_columns": (),
    }
    shards = ingested(folder, DataConfig.model_validate(data), 96)
    run = run_of(folder, "r", data=data, oracle=None, shard_size=96)
    for shard in shards:
        predict(run, shard)
    start_run(run)
    (folder / "words.yaml").write_text(yaml.safe_dump(WORDS))
    return folder


def test_the_planted_shortcut_is_proposed_first(root: Path) -> None:
    command = ["propose", "r", "--model", "portraits:words", "--words", str(root / "words.yaml"), "-w", str(root), "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["words"][0]["name"] == "glasses" == found["together"][0]["name"]
    assert found["words"][0]["share"] == pytest.approx(found["before"] + found["words"][0]["gain"])
    assert found["words"][0]["low"] > 0 and found["n"] == 96 and found["class"] == "smiling"
    assert "Only interventions confirm" in done.stdout.replace("\n", " ")
    pasted = yaml.safe_load(found["yaml"])["oracle"]
    assert WordsOracleConfig.model_validate(pasted).words["glasses"] == tuple((side,) for side in WORDS["glasses"])
    assert found["yaml"] in done.stdout


def test_captions_become_words_that_are_ranked_and_nothing_is_sent_unasked(root: Path) -> None:
    chat = Chat()
    with serving(chat) as address:
        command = [
            "propose",
            "r",
            "--model",
            "portraits:words",
            "--captioner",
            address,
            "--captions",
            "6",
            "-w",
            str(root),
            "--json",
        ]
        refused = CliRunner().invoke(app, command)
        assert refused.exit_code == 2 and "only with --send-images" in refused.output.replace("\n", " ")
        assert chat.asked == []
        done = CliRunner().invoke(app, [*command, "--send-images"])
    assert done.exit_code == 0, done.output
    assert len(chat.asked) == 6
    assert {one["name"] for one in json.loads(done.stdout.splitlines()[-1])["words"]} <= {"red_wall", "dark_glasses"}


def test_words_that_the_run_names_already_are_not_proposed(root: Path) -> None:
    subject = subject_of(root, "r")
    words = WordsOracleConfig.model_validate({"words": WORDS, "model": "portraits:words"})
    assert subject.known == ()
    with pytest.raises(UserError, match="the run names all of these words already: glasses, hat, warm_background"):
        propose_words(replace(subject, known=tuple(WORDS)), words)


def test_an_unknown_run_is_refused_with_those_there_are(root: Path) -> None:
    with pytest.raises(UserError, match="there is no run 'nosuch' in .*; the runs are: r"):
        subject_of(root, "nosuch")


def test_what_adds_nothing_is_not_added() -> None:
    rng = np.random.default_rng(3)
    known, noise = (rng.integers(0, 2, 80).astype(float) for _ in range(2))
    found = propose(1 / (1 + np.exp(-3 * known + 1.5)), known[:, None], {"noise": noise, "constant": np.ones(80)})
    assert found.together == () and [one.name for one in found.alone] == ["noise"]
    assert found.alone[0].gain < 0.01 and found.alone[0].low <= 0
    assert propose(1 / (1 + np.exp(-3 * known + 1.5)), np.zeros((80, 0)), {}).before == pytest.approx(0)


def test_nothing_is_proposed_of_few_images_or_of_one_answer() -> None:
    with pytest.raises(UserError, match="10 images; the explained share needs 24 or more"):
        propose(np.linspace(0, 1, 10), np.zeros((10, 0)), {})
    with pytest.raises(UserError, match="the same answer to every image"):
        propose(np.full(40, 0.3), np.zeros((40, 0)), {})
