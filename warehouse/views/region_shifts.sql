-- What explanations held to a region change: the answer itself, P(target), and each attribute's oracle probability, guided minus null,
-- paired by image and averaged over seeds. Attributes of two classes are signed as the classifier goes from its first class to its second;
-- of more, towards each class asked for in 8 images or more. low and high are simultaneous: 95 % of runs hold the true shifts of
-- all their regions and attributes. status, of an attribute: above null (the interval excludes 0), clear (inside the run's margin, with
-- 3 / margin images, where half of the images flip and .25 more than without guidance, as in `claims`), not enough: where few flip,
-- what does not change was not tested.
-- Over: explanations in a region with their nulls, flipped or not, in regions of 8 images or more.
-- Columns:
--   region: its name in the configuration
--   attribute: null for the answer itself
--   is_answer: the shift is that of P(target)
--   is_target: the attribute is the label itself
--   target: the class asked for; of the answer null
--   shift: mean change, guided minus null
--   low, high: 95 % interval, simultaneous over the run's regions and attributes
--   status: above null, clear or not enough
--   flips: images that flip in the guided arm
--   n: images
create view region_shifts as
with pairs as (
    select
        r.run_id, region, image_id, seed, arm, if(len(classes) = 2, classes[2], target) as target,
        if(arm = 'guided', 1, -1) as sign, if(len(classes) = 2 and target = classes[1], -1, 1) as way,
        flipped, p_target_cf, columns('^d_')
    from region_explanations r
    join (select run_id, classes from runs) using (run_id)
    qualify count(*) over (partition by r.run_id, region, image_id, seed) = 2
),
images as (
    select
        run_id, region, target, image_id, hash(image_id) % 1125899906842624 as lot,
        bool_or(flipped) filter (arm = 'guided') as flips, bool_or(flipped) filter (arm = 'null') as null_flips,
        2 * avg(sign * p_target_cf) as answer, 2 * avg(sign * way * columns('^d_'))
    from pairs group by run_id, region, target, image_id
),
questions as (
    -- The answer whatever was asked for; attributes by the class asked for.
    select run_id, region, null as target, lot, flips, null_flips, answer as "d_" from images
    union all by name
    select run_id, region, target, lot, flips, null_flips, columns('^d_') from images
),
grouped as (
    select
        run_id, region, target, count(*) as n, count_if(flips) as flips, count_if(null_flips) as null_flips,
        list(lot order by lot) as lots, list(columns('^d_') order by lot) filter (columns('^d_') is not null)
    from questions group by run_id, region, target having count(*) >= fewest_images()
),
drawn as (
    select
        run_id, region, target, n, flips, null_flips, resample,
        if(resample = 0, list_transform(lots, lambda lot: 1::double), bootstrap_weights(lots, resample)) as weights, columns('^d_')
    from grouped cross join (select range as resample from range(2001))
),
means as (
    select
        run_id, region, target, n, flips, null_flips, resample,
        list_dot_product(columns('^d_'), weights) / nullif(list_sum(weights), 0)
    from drawn
),
long as (
    select run_id, region, target, n, flips, null_flips, resample, name[3:] as attribute, value
    from (unpivot means on columns('^d_') into name name value value)
),
effects as (
    select
        run_id, region, target, attribute, any_value(n) as n, any_value(flips) as flips, any_value(null_flips) as null_flips,
        max(value) filter (resample = 0) as shift, stddev_samp(value) filter (resample > 0) as sd
    from long group by run_id, region, target, attribute
),
largest as (
    select long.run_id, resample, max(if(sd > 1e-9, abs(value - shift) / sd, 0)) as t
    from long join effects e
        on e.run_id = long.run_id and e.region = long.region and e.attribute = long.attribute
        and e.target is not distinct from long.target
    where resample > 0 group by long.run_id, resample
),
bounded as (
    select *, width * sd * widened(n) as half
    from effects join (select run_id, quantile_cont(t, .95) as width from largest group by run_id) using (run_id)
)
select
    run_id, region, nullif(attribute, '') as attribute, attribute = '' as is_answer,
    attribute is not distinct from target_attribute as is_target, target, shift,
    within(shift - half, 1) as low, within(shift + half, 1) as high,
    case
        when shift - half > 0 or shift + half < 0 then 'above null'
        when attribute <> '' and not (flips >= .5 * n and flips - null_flips >= .25 * n) then 'not enough'
        when shift - half >= -margin and shift + half <= margin and n * margin >= 3 then 'clear'
        else 'not enough'
    end as status,
    flips, n
from bounded join (select run_id, target_attribute, margin from runs) using (run_id);
