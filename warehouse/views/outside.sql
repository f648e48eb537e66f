-- Does the classifier lean on something that no attribute names? Explanations keep only what they changed where the oracle looks at
-- nothing, in the cells of `residuals` that are not named, and the classifier is queried again. Two kinds of evidence: guidance moves
-- the answer there (guided minus null), or redrawing alone does (the null), which is also what its traces would do.
-- Over: explanations of `residuals`, the first images of the audit.
-- Columns:
--   effect: mean change of P(target) by the explanations' changes outside the named cells, guided minus null
--   low, high: 95 % bootstrap interval, widened for few images (Hesterberg 2015, expanded percentile); null below 5 images
--   drift: mean |change| of P(target) by the null's changes there
--   drift_low, drift_high: its interval, made alike
--   n: images
--   unnamed: cells of 64 where the oracle looks at nothing
--   changes: mean |change| in each cell, row by row, guided minus null; null in a named cell
--   place: where the largest of them is, in words; null unless guidance moves the answer
--   finding: something outside your attributes (low above 0 and effect beyond the margin, or drift_low beyond it), nothing outside (high and drift_high under the margin, 1 / margin images or more) or inconclusive
--   why: what something outside rests on, or what an inconclusive finding lacks, in words; else null
create view outside as
with placed as (
    select *, list_position(classes, target) as place, hash(image_id) % 1125899906842624 as lot
    from residuals join (select run_id, classes, margin from runs) using (run_id)
),
measured as (
    select
        run_id, method, margin, count(*) as n, 64 - len(any_value(named)) as unnamed,
        avg(probabilities_guided[place] - probabilities_null[place]) as effect,
        avg(abs(probabilities_null[place] - probabilities_before[place])) as drift,
        list((probabilities_guided[place] - probabilities_null[place])::double order by lot) as moves,
        list(abs(probabilities_null[place] - probabilities_before[place])::double order by lot) as drifts,
        list(lot order by lot) as lots
    from placed
    group by run_id, method, margin
),
weighted as (
    select
        run_id, method, moves, drifts,
        bootstrap_weights(lots, resample) as weights
    from measured cross join (select unnest(range(1, 2001)) as resample)
    where n >= 5
),
spread as (
    select
        run_id, method,
        quantile_cont(list_dot_product(moves, weights) / nullif(list_sum(weights), 0), [.025, .975]) as bounds,
        quantile_cont(list_dot_product(drifts, weights) / nullif(list_sum(weights), 0), [.025, .975]) as drift_bounds
    from weighted
    group by run_id, method
),
cells as (
    select
        run_id, method, cell, any_value(list_contains(named, cell)) as is_named,
        avg(change_guided[cell + 1] - change_null[cell + 1]) as change
    from residuals cross join (select unnest(range(64)) as cell)
    group by run_id, method, cell
),
mapped as (
    select
        run_id, method,
        list(if(is_named, null, change) order by cell) as changes,
        arg_max(cell, change) filter (not is_named) as strongest
    from cells
    group by run_id, method
),
judged as (
    select
        *,
        effect - widened(n) * (effect - bounds[1]) as low, effect + widened(n) * (bounds[2] - effect) as high,
        drift - widened(n) * (drift - drift_bounds[1]) as drift_low, drift + widened(n) * (drift_bounds[2] - drift) as drift_high,
        [['top', 'middle', 'bottom'][1 + (strongest // 8 > 2)::int + (strongest // 8 > 4)::int],
         ['left', 'centre', 'right'][1 + (strongest % 8 > 2)::int + (strongest % 8 > 4)::int]] as words
    from measured left join spread using (run_id, method) join mapped using (run_id, method)
),
found as (
    select
        *,
        unnamed > 0 and coalesce(low > 0 and effect > margin, false) as guided,
        unnamed > 0 and coalesce(drift_low > margin, false) as redrawn,
        case
            when guided or redrawn then 'something outside your attributes'
            when unnamed > 0 and high <= margin and drift_high <= margin and n * margin >= 1 then 'nothing outside'
            else 'inconclusive'
        end as finding
    from judged
)
select
    run_id, method, effect, low, high, drift, drift_low, drift_high, n, unnamed, changes,
    case when guided then if(words = ['middle', 'centre'], 'centre', array_to_string(words, ' ')) end as place,
    finding,
    case
        when guided and redrawn then 'guidance moves the answer there, and redrawing alone does'
        when guided then 'guidance moves the answer there'
        when redrawn then 'redrawing alone moves the answer there: by what was there, or by the traces of redrawing'
        when finding = 'nothing outside' then null
        when unnamed = 0 then 'the oracle looks everywhere'
        else 'too few images to tell'
    end as why
from found;
