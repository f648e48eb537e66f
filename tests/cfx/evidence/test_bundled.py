"""The evidence on the bundled twins: silent on the clean one, and the eyes' cells decide for the planted one."""

import numpy as np
import pytest
import torch

from cfx.attributes.oracle import OracleConfig, load_oracle
from cfx.classifiers import ClassifierConfig, load_classifier
from cfx.evidence import probes, transplant
from cfx.evidence.explained import explained, generic_features
from cfx.evidence.properties import property_table
from cfx.images import from_uint8
from cfx.portraits import draw, render

IDS = [f"portrait-{i}" for i in range(64)]
EYES = [8 * 3 + 3, 8 * 3 + 4, 8 * 4 + 3, 8 * 4 + 4]
MOUTH = [8 * 5 + 3, 8 * 5 + 4, 8 * 6 + 3, 8 * 6 + 4]
pytestmark = pytest.mark.long


def asked(network, squash):
    @torch.inference_mode()
    def answer(images):
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        return torch.cat([squash(network(from_uint8(batch))) for batch in x.split(64)]).double().numpy()

    return answer


def twin(name):
    return asked(load_classifier(ClassifierConfig(weights=f"portraits:{name}")), lambda logits: logits.softmax(1)[:, 1])


@pytest.fixture(scope="module")
def audited():
    drawn = list(draw(len(IDS), seed=777))
    oracle = asked(load_oracle(OracleConfig(weights="portraits:oracle")), lambda probabilities: probabilities)
    images = np.stack([render(portrait) for _, portrait in drawn])
    return images, np.array([label for label, _ in drawn], float), oracle


def places(answer, images, oracle):
    before, seen = answer(images), oracle(images)
    who, cells = transplant.plan(IDS, before > 0.5), transplant.cells((64, 64))
    after, named = (transplant.responses(ask, images, who, cells) for ask in (answer, oracle))
    effects = transplant.place_effects(after, before, who)
    return effects, transplant.unnamed_places(effects, transplant.beyond_names(after, before, named, seen, who))


def test_the_clean_twin_is_explained_and_relies_on_nothing_unnamed(audited):
    images, labels, oracle = audited
    answer = twin("clean")
    before, table, seen = answer(images), property_table(images), oracle(images) > 0.5
    found = probes.findings(probes.probe_all(answer, images, before, table), before, table, seen.astype(float))
    assert [one.property for one in found if one.kind == "relies on"] == []
    effects, unnamed = places(answer, images, oracle)
    assert not unnamed.any()
    assert sorted(np.argsort([effect.mean for effect in effects])[-4:]) == MOUTH
    names = {"attributes": np.column_stack([labels, seen])}
    share = explained(before, names, {"properties": table, "generic": generic_features(images)})
    assert share.names.low > 0.9
    assert share.cleared


def test_the_planted_twin_looks_at_the_eyes_too(audited):
    images, _, oracle = audited
    effects, unnamed = places(twin("planted"), images, oracle)
    assert transplant.deciding(effects)[MOUTH[:2] + EYES[2:]].all()
    assert not unnamed.any()
