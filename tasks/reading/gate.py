"""`Policy`, what a run is held to, and the verdict on it: for the audit, the command line and continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from warehouse.facts.schema import POLICIES
from warehouse.lens import gate as kept
from warehouse.lens.gate import Gate


class Policy(BaseModel):
    """What the gate holds a run to: the section `gate` of an audit, or a file of its own (`cfx gate RUN --policy gate.yaml`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    forbidden: tuple[str, ...] | None = Field(
        None,
        description="attributes it must not rely on; default: every one that the oracle names but the label, and every property "
        "and place that has no name",
    )
    explained: bool = Field(
        True, description="undecided where what was named explains clearly less of the answers than could be explained"
    )
    maximum_effect: float = Field(0.15, gt=0, lt=1, description="largest effect of such an attribute, in oracle probability")
    minimum_images: int = Field(64, ge=1, description="with fewer, the gate is inconclusive")
    minimum_flip_rate: float | None = Field(0.8, ge=0, le=1, description="floor of the flip rate")
    minimum_judge_flip_rate: float | None = Field(0.5, ge=0, le=1, description="floor of the judge's flip rate")
    maximum_rise: float = Field(0.15, gt=0, lt=1, description="how much further than in the base an attribute may move")
    maximum_cd_rise: float | None = Field(0.5, ge=0, description="how much CD may rise above the base's")
    on_fail: Literal["fail", "warn"] = Field(
        "fail", description="of a deployment's run whose gate fails: it ends Failed, or Completed with a warning"
    )
    on_inconclusive: Literal["fail", "warn"] = Field(
        "warn", description="the same of a run whose gate is undecided; exit codes of `cfx gate` depend on neither"
    )
    protected: tuple[str, ...] = Field(
        (),
        description="attributes that must change neither the answer nor how often it is wrong: annotated, or known to the oracle",
    )
    maximum_error_gap: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="how much more often it may err on images of one label without such an attribute than with it",
    )


def set_policy(root: Path, run_id: str, policy: Policy, base: str | None = None) -> bool:
    """Hold a run to a policy and compare it with a base. Returns whether that is a change.

    Raises UserError for an unknown run, base or attribute.
    """
    same = policy_of(root, run_id, in_part=True) == (policy, base)  # also where it was kept before it had all of today's settings
    if same and not kept.damaged_policies(root, run_id):
        return False
    forbidden = list(policy.forbidden) if policy.forbidden is not None else None
    listed = {"base": base, "forbidden": forbidden, "protected": list(policy.protected)}
    return kept.set_policy(root, run_id, policy.model_dump() | listed)


def gate(root: Path, run_id: str, policy: Policy | None = None, base: str | None = None) -> Gate:
    """The verdict on a run, held to this policy and base if any are given, otherwise to those it has (the default for none).

    Raises UserError for an unknown run, base or attribute.
    """
    before, base_before = policy_of(root, run_id, in_part=policy is not None)
    policy, base = policy or before or Policy(), base or base_before
    if (policy, base) != (before, base_before) or kept.damaged_policies(root, run_id):
        set_policy(root, run_id, policy, base)
    return kept.gate(root, run_id)


def policy_at_end(root: Path, run_id: str, policy: Policy | None) -> Policy | None:
    """What an audit holds its run to at its end: its own policy, or None for what the run is held to already.

    Where a policy of the run is damaged, it is what the others say, or the default: an audit that is run again heals its facts.
    """
    if policy is not None or not kept.damaged_policies(root, run_id):
        return policy
    return policy_of(root, run_id, in_part=True)[0] or Policy()


def policy_of(root: Path, run_id: str, in_part: bool = False) -> tuple[Policy | None, str | None]:
    """The policy and the base that a run is held to now. Raises UserError for an unknown run. in_part: see `read_policy`."""
    now = kept.read_policy(root, run_id, in_part)
    if now is None:
        return None, None
    unset = {name for name in POLICIES.gained if now[name] is None}  # of an older version, which had no such setting
    return Policy.model_validate({name: now[name] for name in Policy.model_fields if name not in unset}), now["base"]


def markdown_text(text: str) -> str:
    """Text that starts no HTML in Markdown."""
    return text.replace("<", "&lt;").replace("\n", " ")
