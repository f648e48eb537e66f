-- Confidence: the classifier's mean probability of the target class, on the counterfactual. Higher is better.
-- Over: every guided explanation, flipped or not.
-- Columns:
--   value: mean probability, 0 to 1
--   n: guided explanations
create view confidence as
select run_id, method, round(avg(p_target_cf), 9) as value, count(*) as n
from explanations
where arm = 'guided'
group by run_id, method;
