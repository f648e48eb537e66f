-- How far counterfactuals are from their images, a row per `measure`, on the 8-bit files; mean |difference|, l2 and linf of the
-- unrounded images are columns of `explanations`. l1_sum, l1_5: norms of the whole difference on [0, 1], as DVCE reports them.
-- lpips: learned perceptual distance. Lower is better. sparsity: share of pixels left exactly as they were; higher is better.
-- Over: every guided explanation, flipped or not.
-- Columns:
--   value: mean
--   n: guided explanations
--   measure: l1_sum, l1_5, lpips or sparsity
create view distances as
select run_id, method, round(avg(value), 9) as value, count(*) as n, encoder, measure
from measurements
where measure in ('l1_sum', 'l1_5', 'lpips', 'sparsity') and arm = 'guided'
group by run_id, method, encoder, measure;
