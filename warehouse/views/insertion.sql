-- Insertion, [0, 1]: area under the probability of the predicted class while the image is put into grey, patches that the
-- counterfactual changed most first. Higher: the classifier's evidence lies where the counterfactual changed the image.
-- Over: every guided explanation, flipped or not. encoder: the map that orders the patches.
-- Columns:
--   value: mean area, 0 to 1
--   n: guided explanations
create view insertion as
select run_id, method, round(avg(value), 9) as value, count(*) as n, encoder
from measurements
where measure = 'insertion' and arm = 'guided'
group by run_id, method, encoder;
