-- The attributes that the classifier's guidance changed most, the target attribute left out; rank 1 is the largest |effect|.
-- Two classes: directions pooled, signed as the classifier goes from source (its first class) to target (its second). More:
-- each attribute's strongest target, pooled over its sources, of those asked for in 8 images or more. low and high are simultaneous: 95 % of runs hold all their attributes' true effects.
-- status: above null (q <= .05 and the interval excludes 0), clear (interval inside the run's margin, with enough images that
-- a change of a share `margin` of them would have been seen: 3 / margin), otherwise inconclusive, with the images that would
-- settle it if effect and spread stay as they are. Over: every explanation with its null, flipped or not.
-- Columns:
--   rank: 1 is the largest |effect|
--   source: null for several sources together
--   effect: mean change of the attribute's oracle probability, guided minus null
--   low, high: 95 % interval, simultaneous over the run's attributes
--   sd: the bootstrap's standard deviation of effect
--   p: two-sided sign-flip permutation test
--   q: the p-value after Benjamini-Hochberg
--   status: above null, clear or inconclusive
--   n: images
--   images_needed: with how many 8 of 10 audits would settle it; null where it is settled or no number would do
create macro images_to_settle(n, effect, half, sd, margin) as (  -- images with which 8 of 10 audits would exclude 0 or stay in the margin
    -- null where no number of images would do: no effect at all, and no margin; .8416 is the normal distribution's quantile .8
    try_cast(ceil(greatest(
        n * power((half + .8416 * sd) / greatest(abs(effect), margin - abs(effect)), 2), n + 1, 3 / margin
    )) as bigint)
);
create view ranked_attributes as
with candidates as (
    select attribute_tests.*, margin
    from attribute_tests join (select run_id, margin from runs) using (run_id)
    where not is_target and pooled
),
deviations as (
    -- An attribute that moves alike in every image has no spread (up to rounding) and no part in the largest deviation.
    select run_id, method, unnest(range(1, 2001)) as resample, if(sd > 1e-9, abs(unnest(drawn) - effect) / sd, 0) as t
    from candidates
),
largest as (
    select run_id, method, resample, max(t) as t from deviations group by run_id, method, resample
),
critical as (
    select run_id, method, quantile_cont(t, .95) as width from largest group by run_id, method
),
strongest as (
    select *, width * sd * widened(n) as half
    from candidates join critical using (run_id, method)
    qualify row_number() over (partition by run_id, method, attribute order by abs(effect) desc, source, target) = 1
),
judged as (
    select
        *, effect - half as lower, effect + half as upper,
        case
            when q <= .05 and (lower > 0 or upper < 0) then 'above null'
            when lower >= -margin and upper <= margin and n * margin >= 3 then 'clear'
            else 'inconclusive'
        end as status
    from strongest
)
select
    run_id, method, row_number() over (partition by run_id, method order by abs(effect) desc, attribute) as rank,
    attribute, source, target, effect, within(lower, 1) as low, within(upper, 1) as high, sd, p, q, status, n,
    if(status = 'inconclusive', images_to_settle(n, effect, half, sd, margin), null) as images_needed
from judged;
