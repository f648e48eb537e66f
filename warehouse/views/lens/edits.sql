-- One row per image and attribute: that attribute edited alone, its sham, the same redrawing without the edit, and the image
-- with the difference of the two pasted. They depend on no classifier, so their run_id is their own; what a classifier says of them is
-- in `edit_effects`.
-- Over: every edit.
create view lens.edits as
select e.run_id, e.image_id, path, e.* exclude (run_id, image_id)
from main.edits e
left join (select image_id, min(path) as path from main.images group by image_id) using (image_id);
