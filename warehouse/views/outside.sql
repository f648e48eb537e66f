-- Does the classifier lean on something that no attribute names? Explanations keep only what they changed where the oracle looks at
-- nothing, in the cells of `residuals` that are not named, and the classifier is asked again: guided minus null.
-- Over: explanations of `residuals`, the first images of the audit.
-- Columns:
--   effect: mean change of P(target) by the explanations' changes outside the named cells, guided minus null
--   low, high: 95 % bootstrap interval, widened for few images (Hesterberg 2015, expanded percentile); null below 5 images
--   drift: mean |change| of P(target) by the null's changes there
--   n: images
--   unnamed: cells of 64 where the oracle looks at nothing
--   changes: mean |change| in each cell, row by row, guided minus null; null in a named cell
--   place: where the largest of them is, in words
--   finding: something outside your attributes (the interval above 0, effect beyond the margin), nothing outside (the interval under the margin), or inconclusive
--   why: of an inconclusive finding, in words; else null
create view outside as
with placed as (
    select *, list_position(classes, target) as place, hash(image_id) % 1125899906842624 as lot
    from residuals join (select run_id, classes, margin from runs) using (run_id)
),
asked as (
    select
        run_id, method, margin, count(*) as n, 64 - len(any_value(named)) as unnamed,
        avg(probabilities_guided[place] - probabilities_null[place]) as effect,
        avg(abs(probabilities_null[place] - probabilities_before[place])) as drift,
        list((probabilities_guided[place] - probabilities_null[place])::double order by lot) as moves,
        list(lot order by lot) as lots
    from placed
    group by run_id, method, margin
),
weighted as (
    select
        run_id, method, moves,
        list_transform(lots, lambda lot: poisson(hash(lot * 4096 + resample) / 18446744073709551616)) as weights
    from asked cross join (select unnest(range(1, 2001)) as resample)
    where n >= 5
),
spread as (
    select run_id, method, quantile_cont(list_dot_product(moves, weights) / nullif(list_sum(weights), 0), [.025, .975]) as bounds
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
        *, effect - widened(n) * (effect - bounds[1]) as low, effect + widened(n) * (bounds[2] - effect) as high,
        [['top', 'middle', 'bottom'][1 + (strongest // 8 > 2)::int + (strongest // 8 > 4)::int],
         ['left', 'centre', 'right'][1 + (strongest % 8 > 2)::int + (strongest % 8 > 4)::int]] as words
    from asked left join spread using (run_id, method) join mapped using (run_id, method)
),
found as (
    select
        *,
        case
            when unnamed = 0 or low is null or drift > margin then 'inconclusive'
            when low > 0 and effect > margin then 'something outside your attributes'
            when high <= margin and n * margin >= 1 then 'nothing outside'
            else 'inconclusive'
        end as finding
    from judged
)
select
    run_id, method, effect, low, high, drift, n, unnamed, changes,
    if(words = ['middle', 'centre'], 'centre', array_to_string(words, ' ')) as place,
    finding,
    case
        when finding <> 'inconclusive' then null
        when unnamed = 0 then 'the oracle looks everywhere'
        when low is null then 'too few images to tell'
        when drift > margin then 'redrawing alone moves the answer; train the prior on pictures like these, or use a method that redraws less'
        else 'too few images to tell'
    end as why
from found;
