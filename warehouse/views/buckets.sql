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
with pairs as (
    select run_id, method, image_id, seed
    from attributes
    group by run_id, method, image_id, seed
    having count(*) = 2
)
select
    run_id, method, source, target, (hash(image_id) % 1024)::bigint as bucket,
    count(distinct image_id) as images, count(*) // 2 as pairs,
    -- Rounded to multiples of 2^-24, the grid of float32 in [.5, 1]: such sums are exact in any order, so the answer does not
    -- depend on shards or threads.
    sum(if(a.arm = 'guided', 1, -1) * round(columns('^d_') * 16777216) / 16777216)
from attributes a
join pairs using (run_id, method, image_id, seed)
join (from explanations where arm = 'guided') using (run_id, method, image_id, seed)
group by run_id, method, source, target, bucket;
