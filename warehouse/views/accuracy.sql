-- How often the classifier is right, over all images and by label: by label it is the recall of that class.
-- Over: images with a label and a prediction.
-- Columns:
--   label: the class that the data set gives; null for all of them together
--   value: share of the images that are predicted as their label
--   low, high: 95 % interval of value (Wilson 1927)
--   n: images
create macro wilson(share, n, side, z := 1.959964) as (  -- end of the score interval of a share of n (Wilson 1927), 95 % by default; side: -1 low, 1 high
    if(share is null, null, least(1, greatest(0,  -- rounding may leave the range
        (share + z * z / (2 * n) + side * z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))) / (1 + z * z / n)
    )))
);
create view accuracy as
with counted as (
    select run_id, label, avg((class = label)::int) as value, count(*) as n
    from predictions join images using (run_id, image_id)
    where label is not null
    group by grouping sets ((run_id), (run_id, label))
)
select run_id, label, value, wilson(value, n, -1) as low, wilson(value, n, 1) as high, n from counted;
