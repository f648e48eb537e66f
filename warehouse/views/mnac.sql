-- MNAC, mean number of attributes changed, the target attribute included: oracle bits (> .5) that differ. Lower is better.
-- Over: guided explanations that flipped, whether or not the image was classified correctly.
-- Columns:
--   value: attributes changed per counterfactual
--   n: guided explanations that flipped
create view mnac as
with changes as (
    select run_id, method, count(*) as n, sum(abs(columns('^c_')))
    from attributes join explanations using (run_id, image_id, method, arm, seed)
    where arm = 'guided' and flipped
    group by run_id, method
)
select run_id, method, sum(changed) / n as value, n
from (unpivot changes on columns('^c_') into name attribute value changed)
group by run_id, method, n;
