-- What the audited classifier answers before and after an edit of one attribute alone: probabilities of all classes. `edit_effects` has
-- the change that they come to.
-- Over: every edit, one an image and attribute.
create view lens.edit_answers as
select e.run_id, e.image_id, path, e.* exclude (run_id, image_id)
from main.effects e
left join (select run_id, image_id, path from main.images) using (run_id, image_id);
