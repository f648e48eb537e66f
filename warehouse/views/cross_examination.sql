-- Does what a counterfactual changed lie where a map of the classifier says the evidence for the predicted class is?
-- Over: guided explanations that flipped.
-- Columns:
--   map: the saliency that the change is held against
--   pointing: share whose map is largest inside the changed region
--   iou: intersection over union of the changed region with as many of the map's largest pixels
--   iou_by_chance: the same for a map that knows nothing
--   rank_correlation: of map and size of the change, over pixels (Spearman)
--   n: guided explanations that flipped
create view cross_examination as
with examined as (
    select
        run_id, method, image_id, seed, encoder,
        any_value(value) filter (measure = 'pointing') as pointing,
        any_value(value) filter (measure = 'iou_at_equal_area') as iou,
        any_value(value) filter (measure = 'rank_correlation') as rank_correlation
    from measurements
    where measure in ('pointing', 'iou_at_equal_area', 'rank_correlation')
    group by all
), chance as (
    select run_id, method, image_id, seed, value as by_chance from measurements where measure = 'iou_by_chance'
)
select
    run_id, method, encoder as map,
    avg(pointing) as pointing, avg(iou) as iou, avg(by_chance) as iou_by_chance, avg(rank_correlation) as rank_correlation,
    count(*) as n
from examined
join outcomes using (run_id, method, image_id, seed)
left join chance using (run_id, method, image_id, seed)
where flipped
group by all;
