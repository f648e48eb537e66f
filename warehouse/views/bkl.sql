-- BKL, the flip rate's counterpart in confidence: mean of 1 - p(target class) on the counterfactual. Lower is better.
-- Over: every guided explanation, flipped or not.
-- Columns:
--   value: mean, 0 to 1
--   n: guided explanations
create view bkl as
select run_id, method, round(avg(1 - p_target_cf), 9) as value, count(*) as n
from explanations
where arm = 'guided'
group by run_id, method;
