-- Does a counterfactual give away a training image that is not its own input? Each is held against the training images as an
-- encoder sees them: how near the nearest is, relative to half the mean distance of the fifty nearest (Carlini et al. 2023,
-- arXiv:2301.13188, section 5.1). Below 1 it is flagged. Every counterfactual meets every image, so ask for one run, and of
-- large runs for some images. Over: guided counterfactuals with features, against the images of the train split, or all where
-- a run has no such split: the images of a prior that was trained on this audit's data.
-- Columns:
--   nearest: the training image that is nearest, its own input left out
--   distance: Euclidean distance of the features
--   ratio: distance, divided by half the mean distance of the fifty nearest
--   near_copy: ratio is below 1
create view near_copies as
with training as (
    select run_id, image_id as nearest, encoder, vector as there
    from features join (
        select run_id, image_id, coalesce(split = 'train', false) as train,
            bool_or(coalesce(split = 'train', false)) over (partition by run_id) as has_train
        from images
    ) using (run_id, image_id)
    where method is null and train = has_train
),
distances as (
    select run_id, method, image_id, seed, encoder, nearest, list_distance(vector, there) as distance
    from features join training using (run_id, encoder)
    where arm = 'guided' and nearest <> image_id
),
held as (
    select
        run_id, method, image_id, seed, encoder,
        arg_min(nearest, distance) as nearest, min(distance) as distance, list_avg(min(distance, 50)) as usual
    from distances
    group by run_id, method, image_id, seed, encoder
)
select
    run_id, method, image_id, seed, encoder, nearest, distance,
    distance / nullif(usual / 2, 0) as ratio, coalesce(ratio < 1, true) as near_copy
from held;
