-- What editing one attribute alone does to the audited classifier: the mean of `edit_effects`.
-- Over: edits that the oracle confirms and that changed no other attribute by more than the audit allows (`counted`).
-- Columns:
--   effect: mean change of P(target) when the attribute alone is switched on; null without a counted edit
--   low, high: 95 % bootstrap interval, widened for few images (Hesterberg 2015, expanded percentile); null below 5 images
--   sd: the bootstrap's standard deviation
--   drift: mean |change| of P(target) by the sham alone
--   redrawing: largest |mean change| of P(target) by the shams of an attribute, counted or not; the same for all of a run's attributes
--   judge: mean change of the judge's P(target) by the same edits
--   n: counted edits, one an image
--   tried: edits, counted or not
create view interventions as
with measured as (
    select
        run_id, attribute, target, count(*) as tried, count_if(counted) as n,
        avg(change) filter (counted) as effect, avg(judge) filter (counted) as judge, avg(drift) filter (counted) as drift,
        max(abs(avg(pull))) over (partition by run_id, target) as redrawing,
        list(change order by lot) filter (counted) as changes,
        list(lot order by lot) filter (counted) as lots
    from (select *, hash(image_id) % 1125899906842624 as lot from edit_effects)
    group by run_id, attribute, target
),
weighted as (
    -- Once for all that was edited on the same images: attributes, targets, and runs.
    select lots, resample, bootstrap_weights(lots, resample) as weights
    from (select distinct lots from measured where n >= 5) cross join (select unnest(range(1, 2001)) as resample)
),
drawn as (
    select run_id, attribute, target, list_dot_product(changes, weights) / nullif(list_sum(weights), 0) as effect
    from measured join weighted using (lots)
),
spread as (
    select
        run_id, attribute, target, quantile_cont(effect, [.025, .975]) as bounds, stddev_samp(effect) as sd
    from drawn
    group by run_id, attribute, target
)
select
    run_id, attribute, target, effect,
    within(effect - widened(n) * (effect - bounds[1]), 1) as low,
    within(effect + widened(n) * (bounds[2] - effect), 1) as high,
    sd, drift, redrawing, judge, n, tried
from measured left join spread using (run_id, attribute, target);
