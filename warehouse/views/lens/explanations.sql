-- One row per image, method, arm and seed: a counterfactual and what the classifiers say of it. `outcomes` has the guided ones, without
-- the images' bytes.
-- Over: guided explanations and their nulls, flipped or not.
-- Columns:
--   audit: the audit's name in its configuration
--   label: the class that the data set gives; null without one
--   predicted: class predicted on the clean image
create view lens.explanations as
select
    e.run_id, audit, e.image_id, path, label, e.source as predicted, e.* exclude (run_id, image_id, source), e.source
from main.explanations e
left join (select run_id, image_id, path, label from main.images) using (run_id, image_id)
left join (select run_id, name as audit from main.runs) using (run_id);
