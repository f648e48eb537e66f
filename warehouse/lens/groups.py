"""Facts and views in the order in which one looks for them: in groups, the most useful first, and what to ask each first."""

from __future__ import annotations

from warehouse.lens.names import OLD_VIEWS

START, IMAGES = "start here", "images"
_OTHERS = {
    "data": "quality_images near_duplicates label_issues shared_files near_copies",
    "groups": "subgroups fairness group_counts label_associations",
    "evidence": "saliency interventions attribute_shifts ranked_attributes explained_share places segments regions region_shifts "
    "unnamed_findings property_associations edit_quality reacting mad cross_examination truth_agreement admitted editors ways "
    "image_shifts claims",
    "metrics": "fr judge_fr confidence bkl mnac cd fid sfid kid crossover_fid fs fva s3 cout im1 im2 insertion deletion "
    "distances diversity absent",
    "between audits": "trend watched changes edit_changes flip_changes unedited bases audits canaries layers damaged",
    "people": "reviews marks agreement names given_names policies word_agreement",
    "costs, grades": "stage_costs stages queries benchmark cells graded truths",
    "internals": "attribute_scores edit_answers annotations properties explained probes property_claims transplants "
    "place_claims place_cells segment_claims region_explanations measurements features pairs set_metrics draws "
    "attribute_sums annotation_sums annotated changed compared crossed buckets resamples cd_intervals attribute_tests",
}
GROUPS: dict[str, dict[str, str]] = {  # group -> view or fact -> itself in a few words; none: named in one line with others
    START: {
        "findings": "what the answer rests on, ranked, with verdicts",
        "accuracy": "how often the classifier is right, in all and by label",
        "worst_groups": "accuracy by label and attribute, the worst first",
        "confusion": "label against predicted class, counted",
        "verdicts": "each attribute: verdict, shift, effect of edits",
        "gate": "every release check: value, limit, result, reason",
        "gate_verdicts": "pass, fail or inconclusive, one row an audit",
        "scorecard": "every metric of every audit",
        "runs": "the audits: classifier, images, when, status",
        "run_settings": "what an audit ran with, one row a setting",
        "warnings": "what may make an audit's numbers mean something else",
        "quality": "checks of the data: duplicates, leaks, wrong labels, blur",
    },
    IMAGES: {
        "predictions": "each image: file, label, predicted class, right or wrong",
        "outcomes": "each counterfactual: predicted, target, flipped, how far",
        "attribute_changes": "each counterfactual and attribute: before and after",
        "edit_effects": "each edit of one attribute: what the answer did",
        "images": "the images themselves, with annotations",
        "explanations": "counterfactuals with their images, also unguided ones",
        "edits": "edited images, their shams and pasted ones",
        "rejected": "inputs that were refused, with the reason",
    },
    **{group: dict.fromkeys(names.split(), "") for group, names in _OTHERS.items()},
    "old names": {old: f"old name of {new}" for old, new in OLD_VIEWS.items()},
}
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}

EXAMPLES = {
    "findings": "select rank, kind, name, round(effect, 3) as effect, verdict, why from findings order by run_id, rank limit 5",
    "accuracy": "select audit, label, accuracy, low, high, n from accuracy order by audit, label nulls first limit 6",
    "worst_groups": "select audit, label, attribute, present, accuracy, n from worst_groups order by accuracy limit 5",
    "confusion": "select audit, label, predicted, n from confusion order by all limit 8",
    "verdicts": "select audit, attribute, shift, edit_effect, q_value, verdict from verdicts order by run_id, rank limit 5",
    "gate": "select rule, subject, result, reason from gate order by run_id, place limit 5",
    "gate_verdicts": "select audit, verdict, passed, failed, undecided from gate_verdicts order by audit limit 5",
    "scorecard": "select audit, metric, value, n from scorecard order by audit, metric limit 5",
    "runs": "select run_id, audit, model, status, started, flipped from runs order by started desc limit 5",
    "run_settings": "select audit, setting, value from run_settings where setting like 'prior.%' order by all limit 5",
    "predictions": "select path, label, predicted, confidence from predictions where not correct order by path limit 5",
    "outcomes": "select path, label, predicted, target, flipped, l1 from outcomes order by l1 limit 5",
    "attribute_changes": "select path, attribute, before, after from attribute_changes order by abs(change) desc limit 5",
    "edit_effects": "select path, attribute, target, effect from edit_effects where counted order by path limit 5",
    "edits": "select path, attribute, switched_on, confirmed, png from edits order by path, attribute limit 5",
    "explanations": "select path, predicted, target, arm, p_target_cf, png from explanations order by path, arm limit 5",
    "quality": "select audit, issue, about, severity, says from quality order by run_id, place limit 12",
    "quality_images": "select issue, path, other, why from quality_images order by run_id, issue, rank limit 5",
    "images": "select path, split, label, width, height, png from images order by path limit 5",
}


def example(name: str) -> str:
    """A first query of a fact or view."""
    return EXAMPLES.get(name, f"from {name} limit 3")
