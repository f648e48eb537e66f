-- What a counterfactual changed, one row an image and attribute: the oracle's probability before and after.
-- Over: guided explanations, flipped or not.
-- Columns:
--   audit: the audit's name in its configuration
--   predicted: class predicted on the clean image
--   before: oracle's probability of the attribute on the image
--   after: oracle's probability of it on the counterfactual
--   change: after minus before
--   switched: 1 it appeared, -1 it vanished, 0 neither: the change of "above .5"
create view lens.attribute_changes as
with scores as (
    select run_id, image_id, method, seed, columns('^p_'), columns('^q_') from main.attributes where arm = 'guided'
),
long as (
    select run_id, image_id, method, seed, name[3:] as attribute, name[1] as moment, probability
    from (unpivot scores on columns('^[pq]_') into name name value probability)
),
paired as (
    select
        run_id, image_id, method, seed, attribute,
        max(probability) filter (moment = 'p') as before, max(probability) filter (moment = 'q') as after
    from long group by all
)
select
    o.run_id, audit, o.image_id, o.path, o.label, o.source as predicted, o.target, o.flipped, o.method, o.seed, o.way, attribute,
    before, after, after - before as change, (after > .5)::tinyint - (before > .5)::tinyint as switched
from paired
join main.outcomes o using (run_id, image_id, method, seed)
left join (select run_id, name as audit from main.runs) using (run_id);
