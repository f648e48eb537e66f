-- IM2: how far the autoencoders of the target class and of all classes disagree about a counterfactual, in proportion to its own
-- L1 norm. Lower is better. Over: guided explanations that flipped.
-- Columns:
--   value: mean, 0 up
--   n: explanations that flipped
create view im2 as
select run_id, method, round(avg(value), 9) as value, count(*) as n
from measurements join explanations using (run_id, image_id, method, arm, seed)
where measure = 'im2' and arm = 'guided' and flipped
group by run_id, method;
