-- Where it is known where attributes show (`saliency.regions`): do maps, changes and masks lie there?
-- Over: guided explanations that flipped and whose region is known.
-- Columns:
--   attribute: whose region it is
--   evidence: change (of the counterfactual), mask (what it was allowed to change), or a map of the classifier
--   pointing: share whose largest evidence lies inside the region
--   iou: intersection over union of the region with as many of the largest pixels of evidence
--   iou_by_chance: the same for evidence that knows nothing
--   n: explanations
create view truth_agreement as
with graded as (
    select
        run_id, method, image_id, seed, split_part(measure, ':', 2) as attribute, encoder,
        any_value(value) filter (measure like 'truth_pointing:%') as pointing,
        any_value(value) filter (measure like 'truth_iou:%') as iou
    from measurements
    where measure like 'truth_pointing:%' or measure like 'truth_iou:%'
    group by all
), chance as (
    select run_id, method, image_id, seed, split_part(measure, ':', 2) as attribute, value as by_chance
    from measurements
    where measure like 'truth_iou_by_chance:%'
)
select
    run_id, method, attribute, encoder as evidence,
    avg(pointing) as pointing, avg(iou) as iou, avg(by_chance) as iou_by_chance, count(*) as n
from graded
join outcomes using (run_id, method, image_id, seed)
left join chance using (run_id, method, image_id, seed, attribute)
where flipped
group by all;
