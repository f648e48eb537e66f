-- FVA, face verification accuracy: the share of counterfactuals that show the same face, by a cosine of VGGFace2's features above
-- (not at) .5. Higher is better. Over: guided explanations that flipped, whether or not the image was classified correctly.
-- Columns:
--   value: share, 0 to 1
--   n: explanations that flipped
create view fva as
select run_id, method, avg((value > .5)::int) as value, count(*) as n, encoder
from measurements join explanations using (run_id, image_id, method, arm, seed)
where measure = 'cosine' and encoder = 'vggface2' and arm = 'guided' and flipped
group by run_id, method, encoder;
