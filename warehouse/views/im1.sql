-- IM1: how much better the target class's autoencoder rebuilds a counterfactual than the source class's does. Lower is better;
-- below 1 it is closer to the target class. Autoencoders of one run only: another run's are others.
-- Over: guided explanations that flipped.
-- Columns:
--   value: mean ratio of squared errors, 0 up
--   n: explanations that flipped
create view im1 as
select run_id, method, round(avg(value), 9) as value, count(*) as n
from measurements join explanations using (run_id, image_id, method, arm, seed)
where measure = 'im1' and arm = 'guided' and flipped
group by run_id, method;
