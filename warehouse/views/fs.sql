-- FS, face similarity: mean cosine of VGGFace2's features of an image and its counterfactual. Higher is better; two random faces
-- are about .26 alike. Over: guided explanations that flipped, whether or not the image was classified correctly.
-- Columns:
--   value: mean cosine, -1 to 1
--   n: explanations that flipped
create view fs as
select run_id, method, round(avg(value), 9) as value, count(*) as n, encoder
from measurements join explanations using (run_id, image_id, method, arm, seed)
where measure = 'cosine' and encoder = 'vggface2' and arm = 'guided' and flipped
group by run_id, method, encoder;
