-- MAD, mean absolute difference, of FastDiME's shortcut detection (Weng et al. 2024): how far the classifier's probability moves, in
-- either direction, when an attribute alone is changed. Among classifiers that were trained on sets in which the attribute goes with the
-- label in k % of the images, one that takes the shortcut has the larger MAD. Unlike an effect it has no sign, so noise does not cancel
-- out: it is read beside `sham`, the same of redrawing alone.
-- Over: edits that the oracle confirms and that changed no other attribute by more than the audit allows (`counted`).
-- Columns:
--   value: mean |P(target | edited) - P(target | image)|, 0 to 1
--   sham: mean |P(target | sham) - P(target | image)| of the same images
--   n: counted edits, one an image
--   k: per cent of the training set in which the attribute goes with the label, where it was planted on Portraits; else null
create view mad as
with goals as (
    select run_id, classes[2] as target, 2 as place from runs where len(classes) = 2
    union
    select run_id, target, list_position(classes, target) as place
    from runs join explanations using (run_id)
    where len(classes) > 2
),
planted as (
    select distinct run_id, attribute, 50 * (1 + rho) as k from truths where kind = 'shortcut' and list_contains(planted, attribute)
)
select
    run_id, attribute, target,
    round(avg(abs(probabilities_after[place]::double - probabilities_before[place]::double)), 9) as value,
    round(avg(abs(probabilities_sham[place]::double - probabilities_before[place]::double)), 9) as sham,
    count(*) as n, any_value(k) as k
from effects join goals using (run_id) left join planted using (run_id, attribute)
where counted
group by run_id, attribute, target;
