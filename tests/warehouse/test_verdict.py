from __future__ import annotations

from typing import Any

from warehouse.report.verdict import verdict

RUN: dict[str, Any] = {"name": "planted", "target_attribute": "smile", "classes": ["neutral", "smiling"], "margin": 0.05}


def row(attribute: str, said: str, effect: float = 0.0, half: float = 0.02, n: int = 128, **more: Any) -> dict[str, Any]:
    known = {"attribute": attribute, "verdict": said, "n": n, "images_needed": 300, "source": "neutral", "target": "smiling"}
    edits = {"intervention": None, "intervention_low": None, "intervention_high": None, "n_interventions": 0, "rests_on": "x"}
    return known | edits | {"effect": effect, "low": effect - half, "high": effect + half} | more


EDITED: dict[str, Any] = {"intervention": 0.4, "intervention_low": 0.3, "intervention_high": 0.5, "n_interventions": 30}


def test_a_finding_names_its_attributes_and_both_kinds_of_evidence() -> None:
    confirmed = row("glasses", "confirmed", 0.3, **EDITED | {"rests_on": "explanations and edits"})
    said = verdict(RUN, [confirmed, row("hat", "suspected", -0.2), row("beard", "clear")])
    assert (said.kind, said.headline) == ("finding", "The smile classifier “planted” leans on glasses")
    assert said.sentences[0] == (
        "When images are changed until the model says “smiling”, “glasses” becomes more likely: "
        "+30.0 points over an unguided control (95% interval +28.0 to +32.0, 128 images)."
    )
    assert said.sentences[1] == (
        "Adding only “glasses” raises the “smiling” score by 40.0 points on average (95% interval +30.0 to +50.0, 30 edits). "
        "Two tests agree: confirmed."
    )
    assert "“hat” becomes less likely: −20.0 points" in said.sentences[2]
    assert said.sentences[3].startswith("This is an association") and "none could be counted" in said.sentences[3]
    assert said.sentences[4] == "Suspected, not confirmed: hat."


def test_an_attribute_that_lowers_the_score_says_so_and_what_the_verdict_rests_on() -> None:
    lowers: dict[str, Any] = {"intervention": -0.4, "intervention_low": -0.5, "intervention_high": -0.3, "n_interventions": 30}
    said = verdict(RUN, [row("hat", "suspected", 0.2, **lowers | {"rests_on": "edits alone"})])
    assert said.sentences[1] == (
        "Adding only “hat” lowers the “smiling” score by 40.0 points on average (95% interval −50.0 to −30.0, 30 edits). "
        "Verdict: suspected, edits alone."
    )


def test_a_suspicion_is_no_more_than_one() -> None:
    said = verdict(RUN, [row("glasses", "suspected", 0.03, 0.01)])
    assert said.headline == "The smile classifier “planted” may lean on glasses"
    assert said.sentences[0].endswith("This is inside the margin.")


def test_nothing_found() -> None:
    said = verdict(RUN, [row("glasses", "clear"), row("hat", "inconclusive", images_needed=1234)])
    assert (said.kind, said.headline) == ("clear", "Nothing found that the smile classifier “planted” leans on")
    assert said.sentences[1].startswith("Undecided: hat.") and "About 1,234 images" in said.sentences[1]


OUTSIDE = {
    "finding": "something outside your attributes", "place": "top left", "effect": 0.2, "low": 0.1, "high": 0.3, "n": 32,
    "drift": 0.1, "drift_low": 0.06, "drift_high": 0.15,
}  # fmt: skip


def test_something_outside_the_attributes_is_a_finding() -> None:
    said = verdict(RUN, [row("glasses", "clear")], [OUTSIDE])
    assert (said.kind, said.headline) == ("finding", "The smile classifier “planted” leans on something that no attribute names")
    assert "most of them top left" in said.sentences[0] and "by +20.0 points" in said.sentences[0]
    assert verdict(RUN, [row("glasses", "clear")], [OUTSIDE | {"finding": "nothing outside"}]).kind == "clear"
    redrawn = verdict(RUN, [row("glasses", "clear")], [OUTSIDE | {"place": None}])
    assert (
        "redrawing regions the attribute model ignores" in redrawn.sentences[0]
        and "by 10.0 points on average" in redrawn.sentences[0]
    )
    both = verdict(RUN, [row("glasses", "confirmed", 0.3, **EDITED)], [OUTSIDE])
    assert both.headline.endswith("leans on glasses") and both.sentences[-1].startswith("Something outside")


def test_too_few_images_decide_nothing() -> None:
    said = verdict(RUN, [row("glasses", "inconclusive", n=20), row("hat", "inconclusive", n=20, images_needed=800)])
    assert said.kind == "inconclusive"
    assert said.headline == "Inconclusive: too few images (20) to say what the smile classifier “planted” leans on"
    assert "About 800 images" in said.sentences[0]


def test_no_effects_no_verdict_and_the_classes_name_a_task_without_a_label() -> None:
    said = verdict(RUN | {"target_attribute": None}, [])
    assert (said.kind, said.headline) == ("inconclusive", "No verdict yet on the classifier “planted” of neutral and smiling")


def test_many_classes_are_counted_not_listed() -> None:
    many = RUN | {"target_attribute": None, "classes": [f"class {i}" for i in range(1000)]}
    said = verdict(many, [row("glasses", "confirmed", 0.3, **EDITED)])
    assert said.headline == "The classifier “planted” of 1000 classes leans on glasses"


def test_a_failed_canary_is_the_verdict() -> None:
    said = verdict(
        RUN, [row("glasses", "inconclusive", 0.3, rests_on="refused: the canary failed, hat was planted and is clear")]
    )
    assert (said.kind, said.headline) == ("inconclusive", "No verdict on the smile classifier “planted”")
    assert said.sentences == ("Refused: the canary failed, hat was planted and is clear.",)
