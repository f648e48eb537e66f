-- The oracle's probability of each attribute before and after an explanation, one row an explanation and four columns an attribute.
-- `attribute_changes` is the same with one row an attribute.
-- Over: guided explanations and their nulls, flipped or not.
-- Columns:
--   before_<attribute>: oracle's probability of that attribute on the image
--   after_<attribute>: oracle's probability of it on the counterfactual
--   change_<attribute>: after minus before
--   switched_<attribute>: 1 it appeared, -1 it vanished, 0 neither: the change of "above .5"
create view lens.attribute_scores as
select
    run_id, image_id, method, arm, seed,
    columns('^p_(.*)$') as "before_\1", columns('^q_(.*)$') as "after_\1",
    columns('^d_(.*)$') as "change_\1", columns('^c_(.*)$') as "switched_\1"
from main.attributes;
