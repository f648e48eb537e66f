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
with annotation_correlation as (
    select run_id, corr(columns('^v_'), query) from annotated group by run_id
),
change_correlation as (
    select
        run_id, method, count(*) as n,
        {'c': corr(columns('^v_(.*)$'), query), 'changed': bool_or(columns('^v_(.*)$') <> 0)} as "v_\1"
    from changed
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
