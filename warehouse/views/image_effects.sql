-- What the classifier's guidance did to each attribute of each image: the change of the oracle's probability, guided minus null,
-- averaged over the seeds. Of two classes signed as the classifier goes from its first class to its second.
-- Over: every explanation with its null, flipped or not, of `admitted`.
-- Columns:
--   effect: change of the attribute's oracle probability, guided minus null
create view image_effects as
with pairs as (
    select
        run_id, method, image_id, seed, arm,
        if(len(classes) = 2, classes[1], source) as source,
        if(len(classes) = 2, classes[2], target) as target,
        if(arm = 'guided', 1, -1) * if(len(classes) = 2 and target = classes[1], -1, 1) as sign,
        columns('^d_')
    from attributes
    join (select run_id, image_id, method, arm, seed, source, target from admitted) using (run_id, image_id, method, arm, seed)
    join (select run_id, classes from runs) using (run_id)
    qualify count(*) over (partition by run_id, method, image_id, seed) = 2
),
per_image as (
    select run_id, method, image_id, source, target, 2 * avg(sign * columns('^d_')) from pairs group by all
)
select run_id, method, image_id, source, target, name[3:] as attribute, effect
from (unpivot per_image on columns('^d_') into name name value effect);
