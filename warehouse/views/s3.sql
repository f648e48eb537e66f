-- S3, similarity to a self-supervised encoder: mean cosine of the features of an image and its counterfactual. Higher is better.
-- s3[simsiam] is the published one, where two random images are about .43 alike; s3[oracle] sees with the audit's own oracle.
-- Over: guided explanations, flipped or not, of images that were classified correctly; an image without a label counts.
-- Columns:
--   value: mean cosine, -1 to 1
--   n: explanations of images that were classified correctly
create view s3 as
select run_id, method, round(avg(value), 9) as value, count(*) as n, encoder
from measurements join outcomes using (run_id, image_id, method, seed)
where measure = 'cosine' and encoder in ('simsiam', 'oracle') and correct is not false
group by run_id, method, encoder;
