-- Every test of an attribute: per direction, and `pooled`: over both directions of a two-class run, signed as the classifier
-- goes from its first class to its second; of more classes over all sources of the class asked for. Of more than two classes,
-- directions and classes of fewer than 8 images are left out. effect: mean change of the oracle's probability, guided minus null, paired by image
-- and seed; low, high: 95 % bootstrap interval; sd and `drawn`: the bootstrap's standard deviation and its effects;
-- p: two-sided sign-flip permutation; q: Benjamini-Hochberg within run and method over attributes x directions (pooled: over
-- attributes), without the target attribute, whose q is null; n: images. Over: every explanation with its null, flipped or not.
-- Columns:
--   pooled: both directions of a two-class run together, signed from source to target; of more classes all sources of a target
--   source: null for several sources together
--   is_target: the attribute is the label itself
--   effect: mean change of the attribute's oracle probability, guided minus null
--   low, high: 95 % bootstrap interval
--   sd: standard deviation of the bootstrap's effects
--   drawn: the bootstrap's 2,000 effects; the same place is the same draw in every attribute, direction and run
--   p: two-sided sign-flip permutation test
--   q: the p-value after Benjamini-Hochberg; null for the target attribute
--   n: images
create view attribute_tests as
with contrasts as (
    select
        r.run_id, r.method, question.pooled,
        if(question.pooled and two, first, r.source) as start,
        if(question.pooled and two, second, r.target) as goal,
        r.kind, r.resample,
        sum(r.images) as images,
        sum(r.pairs) as pairs,
        sum(if(question.pooled and two and r.target = first, -1, 1) * columns('^d_'))
    from resamples r
    join (select run_id, len(classes) = 2 as two, classes[1] as first, classes[2] as second from runs) using (run_id)
    join (values (false), (true)) question(pooled) on two or question.pooled = r.pooled
    group by r.run_id, r.method, question.pooled, start, goal, r.kind, r.resample
),
effects as (
    select
        run_id, method, pooled, start as source, goal as target, attribute[3:] as attribute, max(images) as n,
        max(total / pairs) filter (where kind = 'data') as effect,
        quantile_cont(total / pairs, [.025, .975]) filter (where kind = 'bootstrap' and pairs > 0) as bounds,
        list(total / nullif(pairs, 0) order by resample) filter (where kind = 'bootstrap') as drawn,
        list(total / pairs) filter (where kind = 'sign flip') as permuted
    from (unpivot contrasts on columns('^d_') into name attribute value total)
    group by run_id, method, pooled, source, target, attribute
),
tested as (
    select
        effects.*, attribute is not distinct from target_attribute as is_target,
        -- The data are one of the permutations, hence 1 + and never p = 0.
        (1 + len(list_filter(permuted, lambda value: abs(value) >= abs(effect)))) / (1 + len(permuted)) as p
    from effects join (select run_id, target_attribute from runs) using (run_id)
),
placed as (
    select *, count(*) over family as tests, row_number() over (family order by p, attribute, source, target) as place
    from tested
    window family as (partition by run_id, method, pooled, is_target)
)
select
    run_id, method, pooled, attribute, source, target, is_target, effect,
    within(effect - widened(n) * (effect - bounds[1]), 1) as low, within(effect + widened(n) * (bounds[2] - effect), 1) as high,
    list_stddev_samp(drawn) as sd, drawn, p,
    if(is_target, null, min(p * tests / place) over (
        partition by run_id, method, pooled, is_target order by place desc
    )) as q,
    n
from placed;
