"""The SQL behind each table of the report, printed beside it, so that anyone can ask it again with `cfx query`."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from warehouse.lens.fetch import Row, fetch, printed

RANDOM, BEST, FAILED = 12, 6, 6  # gallery rows of each kind: the page stays small at any number of explanations
FOUND, MOST = 6, 12  # claims whose interventions are shown at length, and attributes whose edits are shown at all

EVIDENCE = {
    "runs": """
select * from runs where run_id = $run
""",
    "layers": """
select layer, there, adds, line from layers where run_id = $run order by place
""",
    "ranked": """
select rank, attribute, source, target, effect, low, high, p, q, intervention, intervention_low, intervention_high,
    n, n_interventions, verdict, rests_on, images_needed
from verdicts
where run_id = $run
order by method, rank
""",
    "predicted": """
select class, count(*)::int as images, avg(list_max(probabilities)) as p, (count(*) over ())::int as classes
from predictions
where run_id = $run
group by class
order by images desc, p desc, class
limit 12
""",
    "share": """
from explained_share where run_id = $run order by class
""",
    "claims": """
select f.rank, kind, name, class, association, f.intervention, f.low, f.high, f.n, f.verdict, why, tied, given_name, images_needed
from findings f
left join verdicts v on v.run_id = f.run_id and kind = 'attribute' and (v.attribute, v.target) = (name, class)
where f.run_id = $run
order by f.rank
""",
    "map": """
select class, place, grid, effect, low, high, residual, decides, unnamed, attributes, framing
from place_cells
where run_id = $run
order by class, place
""",
    "carriers": """
with reacted as (
    select
        kind, name, arg_max(class, abs(intervention)) as class,
        row_number() over (order by max(abs(intervention)) desc, kind, name) as rank
    from unnamed_findings
    where run_id = $run and verdict in ('confirmed', 'suspected', 'fragile')
    group by kind, name
    qualify rank <= 6
), measured as (
    select 'property' as kind, name[3:] as name, null::int as place, null::int as grid, image_id, value
    from (
        unpivot (select image_id, columns('^m_') from properties where run_id = $run) on columns('^m_') into name name value value
    )
), pasted as (
    -- What an image's own place does for P(class): pasted into others, and taken from it.
    select zone as name, place, grid, donor_id as image_id, p_after - p_before as value
    from places join transplants using (run_id, class, place) join reacted on (zone, places.class) = (reacted.name, reacted.class)
    where run_id = $run and kind = 'place'
    union all
    select zone, place, grid, image_id, p_before - p_after
    from places join transplants using (run_id, class, place) join reacted on (zone, places.class) = (reacted.name, reacted.class)
    where run_id = $run and kind = 'place' and other
), valued as (
    from measured
    union all
    select 'place', name, place, grid, image_id, avg(value) from pasted group by name, place, grid, image_id
), placed as (
    select *,
        row_number() over (partition by kind, name order by value desc, image_id) as from_most,
        row_number() over (partition by kind, name order by value, image_id) as from_least
    from valued join reacted using (kind, name)
)
select kind, name, place, grid, image_id, value, from_most <= 12 as most
from placed
where least(from_most, from_least) <= 12
order by rank, most desc, if(most, from_most, from_least)
""",
    "pairs": """
with made as (
    -- What the edit did to the score is `change`, the smaller of two readings: edited minus sham, and pasted minus input.
    select
        e.*, x.edits, switched_on, list_position(classes, e.target) as k, probabilities_before[k] as p_before,
        probabilities_sham[k] as p_sham, probabilities_after[k] as p_edited, probabilities_pasted[k] as p_pasted
    from edit_effects e join effects x using (run_id, image_id, attribute) join (select run_id, classes from runs) using (run_id)
    where run_id = $run
), counts as (
    select attribute, target, count(*)::int as tried, count_if(counted)::int as n, sign(avg(change) filter (counted)) as way
    from made group by attribute, target
), ordered as (
    select
        *, if(switched_on, 1, -1) * change + 0 as moved,
        (row_number() over (partition by attribute, target order by way * change desc, image_id))::int as place
    from made join counts using (attribute, target) where counted
), picked as (
    select *, case place
        when 1 then 'strongest' when n then 'weakest' when 1 + (n - 1) // 2 then 'median'
        when 1 + (n - 1) // 4 then 'upper quartile' when 1 + 3 * (n - 1) // 4 then 'lower quartile' end as pick
    from ordered
), claimed as (
    select name as attribute, class as target, verdict, (row_number() over (order by rank))::int as rank from findings
    where run_id = $run and kind = 'attribute' and intervention is not null
)
select
    rank, attribute, target, verdict, pick, place, n, tried, image_id, path, switched_on,
    p_before, p_sham, p_edited, p_pasted, moved, edits
from picked join claimed using (attribute, target) left join (select run_id, image_id, path from images) using (run_id, image_id)
where rank <= $most
    and (pick in ('strongest', 'median') or pick is not null and rank <= $found and verdict in ('confirmed', 'suspected'))
order by rank, place
""",
    "moved": """
with moved as (
    select
        class, probe, image_id, any_value(p_before) as p_before,
        any_value(p_after) filter (direction = 'down') as p_down, any_value(p_after) filter (direction = 'up') as p_up,
        any_value(strength) filter (direction = 'down') as strength_down,
        any_value(strength) filter (direction = 'up') as strength_up
    from probes where run_id = $run and counted group by class, probe, image_id
), ordered as (
    select
        m.*, rank, verdict, (count(*) over same)::int as n,
        (row_number() over (
            partition by m.class, probe
            order by if(
                verdict = 'fragile',  -- either way counts
                greatest(abs(p_down - p_before), abs(p_up - p_before)), sign(intervention) * (p_up - p_down)
            ) desc, image_id
        ))::int as place
    from moved m join findings f on f.run_id = $run and kind = 'property' and name = probe and f.class = m.class
    where verdict in ('confirmed', 'suspected', 'fragile')
    window same as (partition by m.class, probe)
)
select
    (dense_rank() over (order by rank))::int as rank, probe as property, class, verdict,
    case place when 1 then 'strongest' when n then 'weakest' else 'median' end as pick, place, n, image_id, path,
    p_before, p_down, p_up, strength_down, strength_up
from ordered left join (select image_id, path from images where run_id = $run) using (image_id)
where place in (1, 1 + (n - 1) // 2, n)
qualify dense_rank() over (order by rank) <= $found
order by rank, place
""",
    "pasted": """
with pasted as (
    -- Of each image: the place pasted from an image that is answered otherwise, and from one that is answered alike, the null.
    select
        class, place as cell, image_id, any_value(p_before) as p_before,
        any_value(donor_id) filter (other) as donor_id, any_value(p_after) filter (other) as p_other,
        any_value(p_after) filter (not other) as p_same
    from transplants where run_id = $run group by class, place, image_id
), ordered as (
    select
        p.*, z.zone, rank, verdict, grid, (count(*) over same)::int as n,
        (row_number() over (
            partition by p.class, p.cell order by if(p_before > .5, -1, 1) * (p_other - coalesce(p_same, p_before)) desc, image_id
        ))::int as place
    from pasted p
    join (select class, zone, place as cell, grid from places where run_id = $run) z on z.class = p.class and z.cell = p.cell
    join (select rank, class, name as zone, verdict from findings where run_id = $run and kind = 'place') f
        on f.class = p.class and f.zone = z.zone
    where p_other is not null and verdict in ('confirmed', 'suspected')
    window same as (partition by p.class, p.cell)
)
select
    (dense_rank() over (order by rank))::int as rank, zone, class, verdict, cell, grid,
    case place when 1 then 'strongest' when n then 'weakest' else 'median' end as pick, place, n, image_id, path, donor_id,
    p_before, p_same, p_other
from ordered left join (select image_id, path from images where run_id = $run) using (image_id)
where place in (1, 1 + (n - 1) // 2, n)
qualify dense_rank() over (order by rank) <= $found
order by rank, place
""",
    "regions": """
from regions where run_id = $run
order by list_position(['relies', 'suspected', 'not enough', 'unmoved'], verdict), shift desc nulls last, region
""",
    "region_shifts": """
select region, attribute, is_target, target, shift, low, high, status, flips, n
from region_shifts where run_id = $run and not is_answer
order by status <> 'above null', abs(shift) desc, attribute, region, target
""",
    "region_picks": """
with moves as (
    select
        region, image_id, e.seed, e.source, e.target, e.p_target, e.p_target_cf, u.p_target_cf as p_null, e.flipped,
        e.p_target_cf - u.p_target_cf as move
    from region_explanations e join region_explanations u using (run_id, region, image_id, method, seed)
    where run_id = $run and e.arm = 'guided' and u.arm = 'null'
), ordered as (
    select
        *, count(*) over alike as n,
        row_number() over (partition by region, flipped order by move desc, image_id, seed) as place
    from moves window alike as (partition by region, flipped)
)
select region, image_id, seed, path, source, target, p_target, p_target_cf, p_null, flipped, move
from ordered left join (select image_id, path from images where run_id = $run) using (image_id)
where place = if(flipped, 1 + (n - 1) // 2, 1)
qualify row_number() over (partition by region order by flipped desc) = 1
order by region
""",
    "canary": """
select * from canaries where run_id = $run
""",
    "directions": """
select attribute, source, target, effect, low, high, p, q, n
from attribute_effects
where run_id = $run
order by method, attribute, source, target
""",
    "drift": """
with changes as (
    -- As in ranked_attributes: of two classes both directions, signed as first class to second; of more all sources of a target.
    select
        arm,
        if(len(classes) = 2, classes[1], source) as source,
        if(len(classes) = 2, classes[2], target) as target,
        if(len(classes) = 2 and target = classes[1], -1, 1) as sign,
        columns('^d_')
    from attributes
    join admitted using (run_id, image_id, method, arm, seed)
    join runs using (run_id)
    where run_id = $run
    qualify count(*) over (partition by image_id, admitted.method, seed) = 2  -- in both arms
), means as (
    select arm, if(count(distinct c.source) = 1, any_value(c.source), null) as source, target, avg(sign * columns('^d_'))
    from changes c
    group by arm, target
)
select arm, source, target, name[3:] as attribute, change
from (unpivot means on columns('^d_') into name name value change)
order by attribute, source, target, arm
""",
    "compared": """
with paired as (
    select image_id, source, target from admitted where run_id = $run
    group by image_id, method, seed, source, target having count(distinct arm) = 2
), ways as (
    select source, target, count(distinct image_id) as images from paired group by source, target
), goals as (
    select target, sum(images) as images from ways group by target
)
select
    (select count(distinct image_id) from paired) as images,
    (select count(*) from ways) as directions, (select count(*) from ways where images < fewest_images()) as few,
    (select count(*) from goals where images >= fewest_images()) as goals, fewest_images() as fewest
""",
    "scorecard": """
select metric, method, value, n from scorecard where run_id = $run order by metric, method
""",
    "examined": """
select map, pointing, iou, iou_by_chance, rank_correlation, n from cross_examination where run_id = $run order by map
""",
    "truths": """
select attribute, evidence, pointing, iou, iou_by_chance, n
from truth_agreement where run_id = $run order by attribute, evidence
""",
    "absent": """
select reason, list(metric order by metric) as metrics from absent where run_id = $run group by reason order by reason
""",
    "picks": """
with guided as (
    select *,
        md5(image_id || ':' || seed) as lot,  -- a draw that nobody chose and anyone can repeat
        case when not flipped then 'not flipped' when not judge_flipped then 'judge disagrees' end as failure
    from explanations
    where run_id = $run and arm = 'guided'
), picks as (
    (select 'random' as pick, row_number() over (order by lot) as place, * from guided order by lot limit $random)
    union all
    (select 'best', row_number() over (order by l1, lot), * from guided where failure is null order by l1, lot limit $best)
    union all
    (select 'failed', row_number() over (order by flipped, lot), * from guided where failure is not null
     order by flipped, lot limit $failed)
)
select pick, image_id, seed, path, source, target, p_source, p_source_cf, p_target, p_target_cf, flipped, judge_flipped, l1,
    coalesce(way, 'ladder') as way
from picks left join images using (run_id, image_id)
order by pick, place
""",
    "rules": """
from gate where run_id = $run order by place, subject
""",
    "subgroups": """
select attribute, present, n, reported, accuracy, flip_rate, judge_flip_rate, smallest_group() as smallest
from subgroups where run_id = $run order by attribute, present desc
""",
    "accuracy": """
select value, low, high, n from accuracy where run_id = $run and label is null
""",
    "recalls": """
select label, value, low, high, n from accuracy where run_id = $run and label is not null order by value, n desc, label limit 12
""",
    "confusion": """
select label, class, n, value, (count(distinct label) over ())::int as labels
from confusion where run_id = $run order by label = class, n desc, label, class limit 64
""",
    "worst": """
select
    rank, w.label, attribute, present, known_by, w.value, w.low, w.high, w.n, (count(*) over ())::int as cells,
    coalesce(w.high < a.value - 1e-9, false) as below, (count_if(below) over ())::int as below_overall
from worst_groups w left join accuracy a on a.run_id = w.run_id and a.label is null
where w.run_id = $run and reported order by rank limit 8
""",
    "cells": """
with shown as (
    -- By what was found first, where there are groups by it; else by what splits off a low group. Lowest label first.
    select attribute
    from worst_groups w
    left join verdicts v using (run_id, attribute) left join accuracy a on a.run_id = w.run_id and a.label is null
    where w.run_id = $run
    group by attribute
    order by min(v.rank) filter (v.verdict in ('confirmed', 'suspected')) nulls last,
        coalesce(bool_or(w.high < a.value - 1e-9), false) desc, count_if(reported) desc, min(w.rank) nulls last, attribute
    limit 1
)
select w.label, attribute, present, known_by, reported, w.value, w.low, w.high, w.n,
    coalesce(w.high < a.value - 1e-9, false) as below
from worst_groups w join shown using (attribute) left join accuracy a on a.run_id = w.run_id and a.label is null
where w.run_id = $run
order by min(w.value) over (partition by w.label), w.label, present desc
limit 12
""",
    "fairness": """
select
    odds.attribute, odds.known_by, odds.class, odds.rate_with as recall_with, odds.rate_without as recall_without,
    odds.value, odds.low, odds.high, wrong.rate_with as wrong_with, wrong.rate_without as wrong_without,
    wrong.n_with, wrong.n_without
from (from fairness where run_id = $run and measure = 'equalized odds') odds
join (from fairness where run_id = $run and measure = 'error rate') wrong using (attribute)
order by odds.value desc nulls last, odds.attribute limit 40
""",
    "base": """
select base_id, chosen from bases where run_id = $run
""",
    "changes": """
select c.attribute, base_effect, effect, change, low, high, n
from changes c join bases using (run_id, base_id)
where run_id = $run order by abs(change) desc, c.attribute
""",
    "flips": """
select pairs, both_flip, only_run, only_base, neither, change, low, high
from flip_changes join bases using (run_id, base_id)
where run_id = $run
""",
    "marks": """
select coalesce(attribute, image_id[:12] || ', seed ' || seed) as subject, attribute is null as explanation, mark, count(*) as n,
    string_agg(reviewer, ', ' order by reviewer) as reviewers, string_agg(nullif(note, ''), '; ' order by reviewer) as notes
from marks where run_id = $run group by all order by explanation, subject, mark
""",
    "agreement": """
select judged, pairs, value from agreement where run_id = $run
""",
    "cd": """
select value, low, high, floor, n, unchanged from cd_intervals where run_id = $run order by method
""",
    "splits": """
select coalesce(split, 'split not specified') as split, count(*) as n from images where run_id = $run group by all order by all
""",
    "associations": """
select label, attribute, phi, lift, n
from label_associations join (select run_id, target_attribute from runs) using (run_id)
where run_id = $run and attribute is distinct from target_attribute
order by abs(phi) desc, attribute, label
limit 6
""",
    "quality": """
select place, issue, about, flagged, n, share, severity, threshold, source, says
from quality
where run_id = $run
order by place, about
""",
    "quality_images": """
select issue, rank, path, label, value, other, why
from quality_images
where run_id = $run and rank <= 8
order by issue, rank
""",
    "reasons": """
select stage, reason, count(*) as n from rejected where run_id = $run group by all order by n desc, reason, stage
""",
    "rejected": """
select path, stage, reason, error from rejected where run_id = $run order by reason, path limit 20
""",
    "ways": """
select way, n, flip_rate, judge_flip_rate, admitted from ways where run_id = $run order by way
""",
    "cost": """
select arm, count(*) as explanations, count(distinct image_id) as images,
    sum(nfe_forward) as nfe_forward, sum(nfe_backward) as nfe_backward, sum(seconds) as seconds,
    list(distinct device order by device) as devices, count_if(flipped and not flipped_8bit) as lost_in_png,
    count_if(judge_flipped is not null) as judged
from explanations where run_id = $run group by arm order by arm
""",
}


_DRAWN = {  # what a query takes besides the run
    "picks": {"random": RANDOM, "best": BEST, "failed": FAILED},
    "pairs": {"found": FOUND, "most": MOST},
    "moved": {"found": FOUND},
    "pasted": {"found": FOUND},
}


@dataclass(frozen=True)
class Evidence:
    """A query with its values written out, and its answer."""

    sql: str
    rows: list[Row]


def evidence(lens: duckdb.DuckDBPyConnection, name: str, run_id: str) -> Evidence:
    """The answer to one of EVIDENCE's queries for this run."""
    return answered(lens, EVIDENCE[name], run=run_id, **_DRAWN.get(name, {}))


def answered(lens: duckdb.DuckDBPyConnection, sql: str, **values: str | int) -> Evidence:
    """A query of the report and its answer."""
    sql = sql.strip()
    return Evidence(printed(sql, **values), fetch(lens, sql, **values))


def input_images(lens: duckdb.DuckDBPyConnection, run_id: str, image_ids: list[str]) -> list[Row]:
    """PNG bytes of these images as they were audited; no bytes where the run's configuration says `thumbnails: false`."""
    if not image_ids:
        return []
    ids = {f"image_{i}": image_id for i, image_id in enumerate(image_ids)}
    sql = f"""
        select image_id, if(shown, png, null) as png
        from images left join (select run_id, coalesce((config ->> 'thumbnails')::bool, true) as shown from runs) using (run_id)
        where run_id = $run and image_id in ({", ".join(f"${name}" for name in ids)})
    """
    return fetch(lens, sql, run=run_id, **ids)


def image_rows(lens: duckdb.DuckDBPyConnection, run_id: str, image_ids: list[str]) -> list[Row]:
    """PNG bytes and oracle probabilities of the guided explanations of these images, one row per image and seed.

    No bytes where the run's configuration says `thumbnails: false`.
    Asked apart from the picks and id by id, so that Parquet's row groups without them are not even read.
    """
    if not image_ids:
        return []
    ids = {f"image_{i}": image_id for i, image_id in enumerate(image_ids)}
    sql = f"""
        select
            explanations.image_id, explanations.method, explanations.seed,
            attributes.* exclude (run_id, image_id, method, arm, seed),
            if(shown, images.png, null) as png, if(shown, explanations.png, null) as png_cf,
            if(shown, explanations.mask_png, null) as mask_png, maps.map, if(shown, maps.png, null) as map_png
        from explanations
        left join (select run_id, coalesce((config ->> 'thumbnails')::bool, true) as shown from runs) using (run_id)
        left join attributes using (run_id, image_id, method, arm, seed)
        left join images using (run_id, image_id)
        left join (select run_id, image_id, min(map) as map, arg_min(png, map) as png from saliency group by all) maps
            using (run_id, image_id)
        where explanations.run_id = $run and arm = 'guided' and explanations.image_id in ({", ".join(f"${name}" for name in ids)})
    """
    return fetch(lens, sql, run=run_id, **ids)
