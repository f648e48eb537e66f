-- MNAC, mean number of attributes changed, the target attribute included: oracle bits (> .5) that differ. Lower is better.
-- Over: guided explanations that flipped, whether or not the image was classified correctly.
-- Columns:
--   value: attributes changed per counterfactual
--   n: guided explanations that flipped
create view mnac as
with changes as (
    select run_id, method, sum(flips)::bigint as n, sum(struct_extract(columns('^s_'), 'u'))
    from attribute_sums
    where flips > 0
    group by run_id, method
)
select run_id, method, sum(changed) / n as value, n
from (unpivot changes on columns('^s_') into name attribute value changed)
group by run_id, method, n;
