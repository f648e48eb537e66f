-- How the effect of each attribute moved between two audits, `run_id` minus `base_id`, on the images that both explained. Ask with
-- `where run_id = ... and base_id = ...`. Over: images with an explanation and its null in both; the label is left out.
-- Columns:
--   base_id: the audit it is compared with
--   effect, base_effect: mean change of the attribute's oracle probability on these images, guided minus null, in each
--   change: mean difference of the two, paired by image
--   low, high: 95 % interval of the change, simultaneous over the pair's attributes (normal approximation, Bonferroni)
--   n: images in both
create macro normal_quantile(tail) as (  -- z above which a normal variate lies with probability tail (Abramowitz & Stegun 26.2.23)
    sqrt(-2 * ln(tail)) - (2.515517 + 0.802853 * sqrt(-2 * ln(tail)) - 0.020656 * ln(tail))
    / (1 + 1.432788 * sqrt(-2 * ln(tail)) - 0.378538 * ln(tail) + 0.001308 * power(-2 * ln(tail), 1.5))
);
create view changes as
with paired as (
    select
        a.run_id, b.run_id as base_id, a.method, a.attribute, a.source, a.target,
        avg(a.effect) as effect, avg(b.effect) as base_effect,
        avg(a.effect - b.effect) as change, stddev_samp(a.effect - b.effect) as sd, count(*) as n
    from image_effects a
    join image_effects b using (method, image_id, source, target, attribute)
    join (select run_id, target_attribute, classes from runs) r on r.run_id = a.run_id
    where a.run_id <> b.run_id and attribute is distinct from target_attribute
    group by a.run_id, b.run_id, a.method, a.attribute, a.source, a.target
    having bool_or(len(classes) = 2) or count(*) >= fewest_images()
),
widths as (
    select *, sd / sqrt(n) * normal_quantile(.025 / count(*) over (partition by run_id, base_id, method)) as half
    from paired
)
select
    run_id, base_id, method, attribute, source, target, effect, base_effect,
    change, within(change - half, 2) as low, within(change + half, 2) as high, n
from widths;
