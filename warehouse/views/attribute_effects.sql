-- What the classifier's guidance changed, per attribute and direction: effect is the mean change of the oracle's probability,
-- guided minus null, paired by image and seed; low and high its 95 % bootstrap percentile interval; p a two-sided sign-flip
-- permutation; q Benjamini-Hochberg within run and method over attributes and directions, the target attribute left out (its q
-- is null). n counts images. Over: every explanation with its null, flipped or not.
create view attribute_effects as
with effects as (
    select run_id, method, source, target, kind, attribute[3:] as attribute, images, total / nullif(pairs, 0) as value
    from (unpivot resamples on columns('^d_') into name attribute value total)
),
beside_data as (
    select *, max(if(kind = 'data', value, null)) over (partition by run_id, method, source, target, attribute) as effect
    from effects
),
tested as (
    select
        run_id, method, attribute, source, target, effect,
        quantile_cont(value, .025) filter (where kind = 'bootstrap') as low,
        quantile_cont(value, .975) filter (where kind = 'bootstrap') as high,
        (1 + count_if(kind = 'sign flip' and abs(value) >= abs(effect))) / (1 + count_if(kind = 'sign flip')) as p,
        max(images) as n
    from beside_data
    group by run_id, method, attribute, source, target, effect
),
ranked as (
    select
        tested.*, attribute is not distinct from target_attribute as is_target,
        row_number() over family as place, count(*) over (partition by run_id, method, is_target) as tests
    from tested join (select run_id, target_attribute from runs) using (run_id)
    window family as (partition by run_id, method, is_target order by p, attribute, source, target)
)
select
    run_id, method, attribute, source, target, effect, low, high, p,
    if(is_target, null, min(p * tests / place) over larger) as q,
    n
from ranked
window larger as (partition by run_id, method, is_target order by place desc);
