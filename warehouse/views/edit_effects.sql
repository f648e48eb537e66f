-- What each edit of one attribute alone did to the audited classifier: the change of the probability of `target` when the attribute is
-- switched on, edit minus sham (the same redrawing of the same region without the edit); an edit that switches it off counts with
-- the opposite sign. Two classes: target is the second. More: every target class of the explanations.
-- Over: every edit, one an image and attribute.
-- Columns:
--   counted: the oracle confirms the edit, and it changed no other attribute by more than the audit allows
--   change: change of P(target) when the attribute alone is switched on
--   drift: |change| of P(target) by the sham alone
create view edit_effects as
with goals as (
    select run_id, classes, classes[2] as target from runs where len(classes) = 2
    union
    select run_id, classes, target from runs join explanations using (run_id) where len(classes) > 2
)
select
    run_id, image_id, attribute, target, counted,
    (if(switched_on, 1, -1) * (probabilities_after[place] - probabilities_sham[place]))::double as change,
    abs(probabilities_sham[place] - probabilities_before[place]) as drift
from effects join (select *, list_position(classes, target) as place from goals) using (run_id);
