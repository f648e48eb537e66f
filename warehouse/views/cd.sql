-- CD, correlation difference: sum over attributes of |c - c_cf|. Lower is better. `c` correlates the annotations of an attribute
-- with those of the target attribute; `c_cf` does the same for the changes of their oracle bits (-1, 0, 1). A constant column
-- correlates 0, as in ACE's script, never NaN; `unchanged` says how many attributes changed in no image.
-- Over: guided explanations that flipped; annotated images of the train split, or all where a run has no such split.
-- A run without annotations, or without a target attribute, has no CD.
-- Columns:
--   value: sum over attributes of |c - c_cf|, 0 at best
--   n: explanations that flipped
--   unchanged: attributes that changed in no image
create view cd as
with annotated as (
    select
        run_id,
        columns('^a_(.*)$')::int as "v_\1",
        case alias(columns('^a_(.*)$')) when 'a_' || target_attribute then columns('^a_(.*)$')::int end as "query_\1"
    from images join runs using (run_id)
    where split = 'train' or run_id not in (select run_id from images where split = 'train')
),
changed as (
    select
        run_id, method,
        columns('^c_(.*)$') as "v_\1",
        case alias(columns('^c_(.*)$')) when 'c_' || target_attribute then columns('^c_(.*)$') end as "query_\1"
    from attributes
    join explanations using (run_id, image_id, method, arm, seed)
    join (select run_id, target_attribute from runs) using (run_id)
    where arm = 'guided' and flipped
),
annotation_and_query as (
    select run_id, columns('^v_'), coalesce(*columns('^query_')) as query from annotated
),
change_and_query as (
    select run_id, method, columns('^v_'), coalesce(*columns('^query_')) as query from changed
),
annotation_correlation as (
    select run_id, corr(columns('^v_'), query) from annotation_and_query group by run_id
),
change_correlation as (
    select
        run_id, method, count(*) as n,
        {'c': corr(columns('^v_(.*)$'), query), 'changed': bool_or(columns('^v_(.*)$') <> 0)} as "v_\1"
    from change_and_query
    group by run_id, method
),
wanted as (
    unpivot annotation_correlation on columns('^v_') into name attribute value c
),
found as (
    unpivot change_correlation on columns('^v_') into name attribute value change
)
select
    run_id, method,
    round(sum(abs(if(isnan(c), 0, c) - if(isnan(change.c), 0, change.c))), 9) as value,
    n,
    count_if(not change.changed) as unchanged
from wanted join found using (run_id, attribute)
where change.c is not null
group by run_id, method, n;
