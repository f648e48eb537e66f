-- Counterfactuals, one row each: the image's file, label and predicted class, the class that was asked for, and whether it flipped.
-- Over: every guided explanation, flipped or not; `correct` is null where the image has no label.
-- Columns:
--   audit: the audit's name in its configuration
--   predicted: class predicted on the clean image
--   correct: predicted is the label; null without a label
create view lens.outcomes as
select
    o.run_id, audit, o.image_id, o.path, o.split, o.label, o.source as predicted, o.correct, o.target,
    o.* exclude (run_id, image_id, path, split, label, source, correct, target), o.source, o.source as class
from main.outcomes o
left join (select run_id, name as audit from main.runs) using (run_id);
