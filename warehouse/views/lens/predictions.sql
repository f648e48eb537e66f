-- One row per image: what the audited classifier says of it as it is, and whether that is right.
-- Over: images with a prediction.
-- Columns:
--   audit: the audit's name in its configuration
--   label: the class that the data set gives; null without one
--   predicted: the most probable class
--   correct: predicted is the label; null without a label
--   confidence: probability of the predicted class
create view lens.predictions as
select
    p.run_id, audit, image_id, path, split, label, class as predicted, class = label as correct,
    list_max(probabilities) as confidence, probabilities, class
from main.predictions p
left join main.images using (run_id, image_id)
left join (select run_id, name as audit from main.runs) using (run_id);
