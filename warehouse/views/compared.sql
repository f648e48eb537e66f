-- The sets that FID, sFID and KID compare: the features of an image, by encoder and method, `side` real or counterfactual.
-- Over: real: every image that was explained, flipped or not; counterfactual: every guided explanation that flipped.
-- Columns:
--   side: real, or counterfactual
create view compared as
with explained as (
    select distinct run_id, method, image_id from explanations where arm = 'guided'
)
select run_id, explained.method, f.encoder, 'real' as side, image_id, vector
from features f join explained using (run_id, image_id)
where f.method is null
union all
select run_id, method, encoder, 'counterfactual', image_id, vector
from features join explanations using (run_id, image_id, method, arm, seed)
where arm = 'guided' and flipped;
