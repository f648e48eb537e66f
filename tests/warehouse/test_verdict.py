from __future__ import annotations

from typing import Any

from warehouse.verdict import verdict

RUN: dict[str, Any] = {"name": "planted", "target_attribute": "smile", "classes": ["neutral", "smiling"], "margin": 0.05}


def row(attribute: str, status: str, effect: float = 0.0, half: float = 0.02, n: int = 128, needed: int = 300) -> dict[str, Any]:
    known = {"attribute": attribute, "status": status, "n": n, "images_needed": needed, "source": "neutral", "target": "smiling"}
    return known | {"effect": effect, "low": effect - half, "high": effect + half}


def test_a_finding_names_its_attributes_and_is_called_an_association() -> None:
    said = verdict(RUN, [row("glasses", "above null", 0.3), row("hat", "above null", -0.2), row("beard", "clear")])
    assert (said.kind, said.headline) == ("finding", "The smile classifier “planted” leans on glasses and hat")
    assert said.sentences[0].endswith("+0.300 in probability beyond the null (95% interval +0.280 to +0.320, 128 images).")
    assert "makes “hat” less likely: −0.200" in said.sentences[1]
    assert said.sentences[2].startswith("This is an association")


def test_an_effect_inside_the_margin_is_called_small() -> None:
    said = verdict(RUN, [row("glasses", "above null", 0.03, 0.01)])
    assert said.sentences[0].endswith("It is smaller than the margin.")


def test_nothing_above_the_null() -> None:
    said = verdict(RUN, [row("glasses", "clear"), row("hat", "inconclusive", needed=1234)])
    assert (said.kind, said.headline) == ("clear", "No attribute stands above the null for the smile classifier “planted”")
    assert said.sentences[1].startswith("Undecided: hat.") and "About 1,234 images" in said.sentences[1]


def test_too_few_images_decide_nothing() -> None:
    said = verdict(RUN, [row("glasses", "inconclusive", n=20), row("hat", "inconclusive", n=20, needed=800)])
    assert said.kind == "inconclusive"
    assert said.headline == "Inconclusive: 20 images cannot tell what the smile classifier “planted” leans on"
    assert "About 800 images" in said.sentences[0]


def test_no_effects_no_verdict_and_the_classes_name_a_task_without_a_label() -> None:
    said = verdict(RUN | {"target_attribute": None}, [])
    assert (said.kind, said.headline) == ("inconclusive", "No verdict yet on the classifier “planted” of neutral and smiling")


def test_many_classes_are_counted_not_listed() -> None:
    many = RUN | {"target_attribute": None, "classes": [f"class {i}" for i in range(1000)]}
    assert (
        verdict(many, [row("glasses", "above null", 0.3)]).headline == "The classifier “planted” of 1000 classes leans on glasses"
    )
