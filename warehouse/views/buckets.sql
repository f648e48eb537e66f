-- Guided minus null changes of the oracle's probabilities, summed over the images of a bucket: what the statistics resample.
-- d_<attribute> is the sum over `pairs` (image and seed, in both arms) of `images` images; a bucket is hash(image_id) % 1024,
-- so that few images have one bucket each and millions still have 1,024.
-- Over: every explanation with its null, flipped or not, because to ask for the flip would unpair the null.
-- Columns:
--   bucket: hash(image_id) % 1024
--   images: different images in the bucket
--   pairs: images and seeds explained in both arms
--   d_<attribute>: sum over the pairs of the guided change minus the null's
create view buckets as
select
    run_id, method, source, target, bucket, sum(images)::bigint as images, sum(pairs)::bigint as pairs, sum(columns('^d_'))
from attribute_sums
where pairs > 0
group by run_id, method, source, target, bucket;
