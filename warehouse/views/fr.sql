-- FR, flip rate: the share of counterfactuals that the audited classifier assigns to the target class. Higher is better.
-- Over: every guided explanation, whether or not the image was classified correctly.
-- Columns:
--   value: share, 0 to 1
--   n: guided explanations
create view fr as
select run_id, method, avg(flipped::int) as value, count(*) as n
from explanations
where arm = 'guided'
group by run_id, method;
