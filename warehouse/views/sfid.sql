-- sFID, split FID: counterfactuals of one half of the images against originals of the other, so that an image that was left
-- unchanged is not rewarded for equalling itself. Lower is better. Mean and sd over 10 splits by a hash of the image id; warning
-- as for FID, of half the images. Over: guided explanations that flipped, against every image that was explained.
-- Columns:
--   value: mean over the splits, 0 at best
--   n: counterfactuals that flipped, of which each split compares halves
--   warning: why the value is not to be compared, or null
create view sfid as
select
    run_id, method, value, n, encoder, n_real, splits, sd,
    if(least(n, n_real) < 10000, 'halves of ' || least(n, n_real) // 2 || ' images: biased upwards, see KID', null) as warning
from set_metrics
where metric = 'sfid' and value is not null;
