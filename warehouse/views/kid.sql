-- KID, kernel distance of the features of counterfactuals and originals, in halves as in sFID, up to 1,000 images each. Lower is
-- better; it has no bias at small n, and may be slightly negative. Mean and sd over 10 splits.
-- Over: guided explanations that flipped, against every image that was explained.
-- Columns:
--   value: mean over the splits, about 0 at best
--   n: counterfactuals that flipped, of which each split compares halves
create view kid as
select run_id, method, value, n, encoder, n_real, splits, sd
from set_metrics
where metric = 'kid' and value is not null;
