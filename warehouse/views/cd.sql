-- CD, correlation difference: sum over attributes of |c - c_cf|. Lower is better. `c` correlates the annotations of an attribute
-- with those of the target attribute; `c_cf` does the same for the changes of their oracle bits (-1, 0, 1). A constant column
-- correlates 0, as in ACE's script, never NaN; `unchanged` says how many attributes changed in no image.
-- Over: guided explanations that flipped; annotations as in `annotated`.
-- A run without annotations, or without a target attribute, has no CD.
-- Columns:
--   value: sum over attributes of |c - c_cf|, 0 at best
--   n: explanations that flipped
--   unchanged: attributes that changed in no image
create macro correlation(n, x, xx, y, yy, xy) as (  -- Pearson's, from sums of integers; 0 where one of the two is constant
    if(xy is null, null, coalesce((n * xy - x * y) / nullif(sqrt((n * xx - x * x)::double * (n * yy - y * y)::double), 0), 0))
);
create view cd as
with given as (
    select run_id, columns('^v_(.*)$') as "s_\1", query from annotated where run_id in (select run_id from annotations)
),
reference as (
    select * exclude (has_train)
    from (
        select *, bool_or(train) over (partition by run_id) as has_train
        from annotation_sums
        where run_id not in (select run_id from annotations)
    )
    where train = has_train
    union all by name
    select
        run_id,
        {
            'n': count(columns('^s_(.*)$') + query),
            'v': sum(if(query is null, null, columns('^s_(.*)$')))::bigint,
            'q': sum(if(columns('^s_(.*)$') is null, null, query))::bigint,
            'w': sum(columns('^s_(.*)$') * query)::bigint
        } as "s_\1"
    from given
    group by run_id
),
wanted as (
    select
        run_id,
        {
            'n': sum(struct_extract(columns('^s_(.*)$'), 'n')), 'v': sum(struct_extract(columns('^s_(.*)$'), 'v')),
            'q': sum(struct_extract(columns('^s_(.*)$'), 'q')), 'w': sum(struct_extract(columns('^s_(.*)$'), 'w'))
        } as "s_\1"
    from reference
    group by run_id
),
found as (
    select
        run_id, method, sum(flips)::bigint as n, sum(query) as q, sum(query_size) as qq,
        {
            'v': sum(struct_extract(columns('^s_(.*)$'), 'v')), 'u': sum(struct_extract(columns('^s_(.*)$'), 'u')),
            'w': sum(struct_extract(columns('^s_(.*)$'), 'w'))
        } as "s_\1"
    from attribute_sums
    group by run_id, method
),
correlations as (
    -- A bit is its own square, and the square of a bit's change is its absolute value.
    select
        run_id, method, found.n, found.s.u = 0 as unchanged,
        correlation(wanted.s.n, wanted.s.v, wanted.s.v, wanted.s.q, wanted.s.q, wanted.s.w) as c,
        correlation(found.n, found.s.v, found.s.u, q, qq, found.s.w) as c_cf
    from (unpivot wanted on columns('^s_') into name attribute value s) wanted
    join (unpivot found on columns('^s_') into name attribute value s) found using (run_id, attribute)
    where wanted.s.w is not null and found.s.w is not null  -- else of another run, or a run without a target attribute
)
select run_id, method, round(sum(abs(c - c_cf)), 9) as value, n, count_if(unchanged) as unchanged
from correlations
group by run_id, method, n;
