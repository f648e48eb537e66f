from __future__ import annotations

from typing import Any

import pytest

from warehouse.report.verdict import Verdict, verdict

RUN: dict[str, Any] = {
    "status": "finished",
    "name": "planted",
    "target_attribute": "smile",
    "classes": ["neutral", "smiling"],
    "margin": 0.05,
}


def row(attribute: str, said: str, effect: float = 0.0, half: float = 0.02, n: int = 128, **more: Any) -> dict[str, Any]:
    known = {"attribute": attribute, "verdict": said, "n": n, "images_needed": 300, "source": "neutral", "target": "smiling"}
    edits = {"intervention": None, "intervention_low": None, "intervention_high": None, "n_interventions": 0, "rests_on": "x"}
    return known | edits | {"effect": effect, "low": effect - half, "high": effect + half} | more


EDITED: dict[str, Any] = {"intervention": 0.4, "intervention_low": 0.3, "intervention_high": 0.5, "n_interventions": 30}


SHARE = {
    "class": "smiling", "share": 0.95, "low": 0.9, "high": 0.97, "label_share": 0.9, "ceiling": 0.96,
    "ceiling_inputs": "generic features", "cleared": True, "why": "x", "n": 128, "needs_attributes": False,
}  # fmt: skip
DARK = SHARE | {"share": 0.2, "ceiling": 0.9, "cleared": False}


def claim(kind: str, name: str, said: str, intervention: float | None = 0.0, why: str = "probes") -> dict[str, Any]:
    ends = (None, None) if intervention is None else (intervention - 0.03, intervention + 0.03)
    return {
        "rank": 1, "kind": kind, "name": name, "class": "smiling", "association": 0.5, "intervention": intervention,
        "low": ends[0], "high": ends[1], "n": 96, "verdict": said, "why": why, "tied": [],
    }  # fmt: skip


def words(said: Verdict) -> str:
    return " ".join((said.headline, *said.sentences))


def test_a_finding_names_its_attributes_and_both_kinds_of_evidence() -> None:
    confirmed = row("glasses", "confirmed", 0.3, **EDITED | {"rests_on": "explanations and edits"})
    said = verdict(RUN, [confirmed, row("hat", "suspected", -0.2), row("beard", "clear")], [SHARE], [])
    assert (said.kind, said.headline) == ("finding", "The smile classifier “planted” relies on glasses")
    assert said.sentences[0] == (
        "When images are changed until the model says “smiling”, “glasses” becomes more likely: "
        "+30.0 points over an unguided control (95% confidence +28.0 to +32.0, 128 images)."
    )
    assert said.sentences[1] == (
        "Adding only “glasses” raises the “smiling” score by 40.0 points on average (95% confidence +30.0 to +50.0, "
        "30 edited images). "
        "Two tests agree: confirmed."
    )
    assert "“hat” becomes less likely: −20.0 points" in said.sentences[2]
    assert said.sentences[3].startswith("This is an association") and "none could be counted" in said.sentences[3]
    assert said.sentences[4] == "Suspected, not confirmed: hat."


def test_an_attribute_that_lowers_the_score_says_so_and_what_the_verdict_rests_on() -> None:
    lowers: dict[str, Any] = {"intervention": -0.4, "intervention_low": -0.5, "intervention_high": -0.3, "n_interventions": 30}
    said = verdict(RUN, [row("hat", "suspected", 0.2, **lowers | {"rests_on": "edits alone"})], [SHARE], [])
    assert said.sentences[1] == (
        "Adding only “hat” lowers the “smiling” score by 40.0 points on average (95% confidence −50.0 to −30.0, "
        "30 edited images). "
        "Verdict: suspected, edits alone."
    )


def test_what_the_images_do_not_tell_apart_is_one_finding_of_both_names() -> None:
    both = [claim("property", "contrast", "confirmed", 0.3), claim("property", "brightness", "confirmed", 0.2)]
    both[0]["tied"], both[1]["tied"] = ["brightness"], ["contrast"]
    said = verdict(RUN, [], [SHARE], [*both, claim("property", "warmth", "confirmed", 0.2)])
    assert said.headline == "The smile classifier “planted” relies on brightness or contrast and warmth"


@pytest.mark.parametrize(
    ("claims", "named"),
    [
        ([("property", "warmth", 0.7), ("place", "centre", 0.3)], "warmth"),  # a cast shows everywhere
        ([("place", "bottom right", 0.5), ("property", "gamma", 0.3)], "the bottom right and mid-tones"),  # a sticker brightens
        (
            [("property", "subject_y", 0.26), ("place", "bottom right", 0.19)],
            "vertical position of the subject and the bottom right",
        ),
        ([("property", "border", 0.6), ("place", "top left", 0.2), ("place", "top right", 0.1)], "border and the top left"),
        ([("place", "top left", 0.2), ("place", "top right", 0.1)], "the top left and the top right"),
        (  # exchanged together: one thing
            [("place", "top left", 0.7), ("place", "middle left", 0.7), ("property", "vignette", 0.3)],
            "the top left and the middle left and vignette",
        ),
    ],
)
def test_the_headline_names_a_place_that_no_property_of_the_whole_image_accounts_for(
    claims: list[tuple[str, str, float]], named: str
) -> None:
    said = verdict(RUN, [], [SHARE], [claim(kind, name, "confirmed", effect) for kind, name, effect in claims])
    assert said.headline == f"The smile classifier “planted” relies on {named}"


def test_a_suspicion_is_no_more_than_one() -> None:
    said = verdict(RUN, [row("glasses", "suspected", 0.03, 0.01)], [SHARE], [])
    assert said.headline == "The smile classifier “planted” may rely on glasses"
    assert said.sentences[0].endswith("This is too small to matter.")


def test_what_was_not_edited_is_named_and_never_green() -> None:
    quiet = [row("hat", "clear"), row("glasses", "not tested"), row("beard", "not tested")]
    said = verdict(RUN, quiet, [SHARE], [])
    assert (said.kind, said.headline) == (
        "inconclusive",
        "Not cleared: not all was tested of the smile classifier “planted”",
    )
    assert said.sentences[0].startswith("Not tested: glasses and beard (")
    assert "glasses" not in said.sentences[1] and said.sentences[1].startswith("Looked at, and clear: hat (")


def test_green_only_where_nothing_is_open_and_the_names_explain_the_answers() -> None:
    quiet = [claim("property", "warmth", "clear"), claim("place", "top left", "clear"), claim("place", "centre", "named", 0.4)]
    said = verdict(RUN, [row("glasses", "clear"), row("hat", "clear")], [SHARE], quiet)
    assert (said.kind, said.headline) == (
        "clear",
        "No reliance found: the smile classifier “planted” is clear of all that was tried",
    )
    assert said.sentences[0].startswith("Looked at, and clear: glasses and hat (each moves by less than")
    assert said.sentences[0].endswith(", 1 property of the image and 1 place in it.")  # the centre decides, by its name
    assert said.sentences[1] == "What you named explains 95% of this classifier's answers, of 96% that can be explained."


@pytest.mark.parametrize(
    ("ranked", "share", "claims", "said"),
    [
        ([row("hat", "inconclusive", images_needed=1234)], [SHARE], [], "About 1,234 images would decide"),
        ([row("hat", "clear")], [DARK], [], "What you named explains 20% of this classifier's answers, of 90% that can be"),
        ([row("hat", "clear")], [SHARE, DARK | {"class": "neutral"}], [], "something else decides"),
        ([row("hat", "clear")], [], [], "was not measured"),
        (
            [row("hat", "clear")],
            [SHARE],
            [claim("property", "noise", "suspected", 0.2, "acts through sharpness")],
            "acts through",
        ),
        ([], [SHARE], [claim("property", "noise", "suspected", 0.2)], "“noise”"),
        ([row("hat", "clear")], [SHARE], [claim("place", "top left", "inconclusive", 0.06)], "top left of the image moves"),
    ],
)
def test_amber_as_long_as_one_thing_is_open(ranked: list[Any], share: list[Any], claims: list[Any], said: str) -> None:
    found = verdict(RUN, [row("glasses", "clear"), *ranked] if ranked else [], share, claims)
    assert found.kind == "inconclusive" and said in words(found)
    assert not any(word in words(found).lower() for word in ("nothing outside", "nothing found", "no reliance"))


def rule(result: str, reason: str = "hat effect +9.0 points, limit 15") -> dict[str, Any]:
    return {"rule": "effect", "subject": "hat", "result": result, "reason": reason}


def test_no_green_beside_a_release_check_that_is_open_or_failed() -> None:
    evidence = ([row("glasses", "clear")], [SHARE], [claim("property", "warmth", "clear")], None, ())
    passed, undecided, failed = (verdict(RUN, *evidence, [rule("pass"), rule(end)]) for end in ("pass", "inconclusive", "fail"))
    assert [said.colour for said in (passed, undecided, failed)] == ["green", "amber", "red"]
    assert undecided.sentences[0] == "Open: hat effect +9.0 points, limit 15."
    assert failed.headline == "The smile classifier “planted” fails its release check"
    assert failed.sentences[0] == "Hat effect +9.0 points, limit 15." and "No reliance found" in failed.sentences[1]


def test_a_suspicion_is_open_so_amber_and_what_was_confirmed_stays_red() -> None:
    assert verdict(RUN, [row("glasses", "suspected", 0.3)], [SHARE], []).colour == "amber"
    confirmed = verdict(RUN, [row("glasses", "confirmed", 0.3, **EDITED)], [SHARE], [], None, (), [rule("pass")])
    assert confirmed.colour == "red"


def test_what_is_open_is_counted_in_the_headline() -> None:
    claims = [claim("place", "centre", "inconclusive", 0.105), claim("property", "warmth", "clear")]
    said = verdict(RUN, [row("earrings", "inconclusive", images_needed=341), row("glasses", "clear")], [SHARE], claims)
    assert (said.colour, said.headline) == ("amber", "The smile classifier “planted”: nothing confirmed, 2 of 4 questions open")
    assert (
        "Undecided: earrings. About 341 images would decide" in said.sentences[0]
        and "the centre of the image" in said.sentences[1]
    )


def test_people_read_labels_and_underscores_as_spaces() -> None:
    named = RUN | {"config": '{"labels": {"smiling": "a smile"}}', "classes": ["neutral", "smiling"]}
    confirmed = row("warm_background", "confirmed", 0.3, target="smiling", **EDITED)
    said = verdict(named, [confirmed], [SHARE], [])
    assert said.headline.endswith("relies on warm background") and "the “a smile” score" in words(said)
    assert "smiling" not in words(said) and "warm_background" not in words(said)


def test_what_has_no_name_is_a_finding_before_any_attribute() -> None:
    claims = [
        claim("property", "warmth", "confirmed", 0.43, "probes and association agree"),
        claim("place", "bottom centre", "confirmed", 0.49),
    ]
    said = verdict(RUN, [row("glasses", "clear")], [DARK], claims)
    assert (said.kind, said.headline) == (
        "finding",
        "The smile classifier “planted” relies on the bottom centre and warmth",
    )
    assert said.sentences[0] == (
        "Moving only the property “warmth” from low to high moves the “smiling” score by +43.0 points on average "
        "(95% confidence +40.0 to +46.0, 96 images): confirmed, probes and association agree."
    )
    assert "Exchanging only the bottom centre of the image moves" in said.sentences[1]
    assert "nothing that was named accounts for it" in said.sentences[1] and "explains 20%" in said.sentences[-1]
    alone = verdict(RUN, [row("glasses", "clear")], [DARK], claims[1:])
    assert alone.headline.endswith("relies on the bottom centre")
    both = verdict(RUN, [row("glasses", "confirmed", 0.3, **EDITED)], [SHARE], claims[:1])
    assert both.headline.endswith("relies on glasses and warmth")


def test_too_few_images_decide_nothing() -> None:
    said = verdict(RUN, [row("glasses", "inconclusive", n=20), row("hat", "inconclusive", n=20, images_needed=800)], [SHARE], [])
    assert said.kind == "inconclusive"
    assert said.headline == "Inconclusive: too few images (20) to say what the smile classifier “planted” relies on"
    assert "About 800 images" in said.sentences[0]


def test_no_effects_no_verdict_and_the_classes_name_a_task_without_a_label() -> None:
    said = verdict(RUN | {"target_attribute": None}, [], [], [])
    assert (said.kind, said.headline) == ("inconclusive", "No verdict yet on the classifier “planted” of neutral and smiling")


def test_many_classes_are_counted_not_listed() -> None:
    many = RUN | {"target_attribute": None, "classes": [f"class {i}" for i in range(1000)]}
    said = verdict(many, [row("glasses", "confirmed", 0.3, **EDITED)], [SHARE], [])
    assert said.headline == "The classifier “planted” of 1000 classes relies on glasses"


def test_a_failed_canary_is_the_verdict() -> None:
    refused = "refused: the canary failed, hat was planted and is clear"
    said = verdict(RUN, [row("glasses", "inconclusive", 0.3, rests_on=refused)], [SHARE], [])
    assert (said.kind, said.headline) == ("inconclusive", "No verdict on the smile classifier “planted”")
    assert said.sentences == ("Refused: the canary failed, hat was planted and is clear.",)
