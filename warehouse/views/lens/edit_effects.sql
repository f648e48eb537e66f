-- What each edit of one attribute alone did to the classifier's answer, image by image: the change of P(target) when the attribute is
-- switched on; an edit that switches it off counts with the opposite sign. It is read twice, redrawn and pasted, and is what both say.
-- Over: every edit, one an image and attribute.
-- Columns:
--   audit: the audit's name in its configuration
--   effect: change of P(target) when the attribute alone is switched on; the smaller of the two readings, 0 where they differ in sign
create view lens.edit_effects as
select
    e.run_id, audit, e.image_id, path, label, e.attribute, e.target, e.change as effect,
    e.* exclude (run_id, image_id, attribute, target, change), e.change
from main.edit_effects e
left join (select run_id, image_id, path, label from main.images) using (run_id, image_id)
left join (select run_id, name as audit from main.runs) using (run_id);
