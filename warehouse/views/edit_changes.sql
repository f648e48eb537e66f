-- How far a classifier's answer to one attribute, edited alone, moved between two audits, `run_id` minus `base_id`, on the images that
-- both edited. Explanations can look alike while reliance grows: they say which attribute is used, edits say how much it decides.
-- Ask with `where run_id = ... and base_id = ...`. Over: images whose edit of the attribute counts in both audits.
-- Columns:
--   base_id: the audit it is compared with
--   effect, base_effect: mean change of P(target) when the attribute alone is switched on, on these images, in each
--   change: mean difference of the two, paired by image
--   low, high: 95 % interval of the change, simultaneous over the pair's attributes (normal approximation, Bonferroni); null below 5
--   n: images in both
create view edit_changes as
with paired as (
    select
        a.run_id, b.run_id as base_id, a.attribute, a.target,
        avg(a.change) as effect, avg(b.change) as base_effect,
        avg(a.change - b.change) as change, stddev_samp(a.change - b.change) as sd, count(*) as n
    from edit_effects a
    join edit_effects b using (image_id, attribute, target)
    where a.run_id <> b.run_id and a.counted and b.counted
    group by a.run_id, b.run_id, a.attribute, a.target
),
widths as (
    select *, if(n < 5, null, sd / sqrt(n) * normal_quantile(.025 / count(*) over (partition by run_id, base_id))) as half from paired
)
select run_id, base_id, attribute, target, effect, base_effect, change, within(change - half, 2) as low, within(change + half, 2) as high, n
from widths;
