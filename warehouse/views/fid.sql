-- FID, Fréchet inception distance: how far the features of counterfactuals are from those of the originals. Lower is better.
-- low, high: 95 % jackknife interval. warning: below 5,000 images FID is biased upwards, the more the fewer: read KID beside
-- it, and compare only runs of equal n. Over: guided explanations that flipped, against every image that was explained.
-- Columns:
--   value: squared distance of two normal distributions, 0 at best
--   n: counterfactuals that flipped
--   warning: why the value is not to be compared, or null
create view fid as
select
    run_id, method, value, n, encoder, n_real, low, high,
    if(least(n, n_real) < 5000, 'only ' || least(n, n_real) || ' images: biased upwards, see KID', null) as warning
from set_metrics
where metric = 'fid' and value is not null;
