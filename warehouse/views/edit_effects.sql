-- What each edit of one attribute alone did to the audited classifier: the change of the probability of `target` when the attribute is
-- switched on; an edit that switches it off counts with the opposite sign. It is read twice: redrawn, edit minus sham (the same
-- redrawing of the same region without the edit), and pasted, the image with the edit's difference from its sham minus the image. A
-- classifier that looks at what redrawing does answers the two differently: the change is what both say, the smaller, and 0 where they
-- differ in sign. Two classes: target is the second. More: every class that explanations asked for.
-- Over: every edit, one an image and attribute.
-- Columns:
--   counted: the oracle confirms the edit, and it changed no other attribute by more than the audit allows
--   change: change of P(target) when the attribute alone is switched on
--   redrawn, pasted: the two readings that it is the smaller of
--   pull: change of P(target) by the sham alone
--   drift: its size
--   judge: change as the judge sees it, of the same edit; null without a judge in the audit's own process
create macro both_say(a, b) as (  -- the smaller of two readings, 0 where they differ in sign
    if(a * b > 0, sign(a) * least(abs(a), abs(b)), 0)
);
create view edit_effects as
with goals as (
    select run_id, classes, classes[2] as target from runs where len(classes) = 2
    union
    select run_id, classes, target from runs join explanations using (run_id) where len(classes) > 2
),
readings as (
    select
        run_id, image_id, attribute, target, counted,
        (if(switched_on, 1, -1) * (probabilities_after[place] - probabilities_sham[place]))::double as redrawn,
        (if(switched_on, 1, -1) * (probabilities_pasted[place] - probabilities_before[place]))::double as pasted,
        (probabilities_sham[place] - probabilities_before[place])::double as pull,
        both_say(
            (if(switched_on, 1, -1) * (judge_after[place] - judge_sham[place]))::double,
            (if(switched_on, 1, -1) * (judge_pasted[place] - judge_before[place]))::double
        ) as judge
    from effects join (select *, list_position(classes, target) as place from goals) using (run_id)
)
select run_id, image_id, attribute, target, counted, both_say(redrawn, pasted) as change, redrawn, pasted, pull, abs(pull) as drift, judge
from readings;
