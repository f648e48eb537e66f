-- What the classifier says of each group of images, counted: those that have an attribute, and those that lack it.
-- Over: images with a prediction of which the attribute is known: by its annotation, or, of an attribute that nobody annotated in
-- the run, by the oracle (probability above .5), which answers for explained images alone. Labels are the data set's, never guessed.
-- Columns:
--   present: the group has the attribute; false: it lacks it
--   known_by: annotation or oracle, the same for all images of a run
--   label: null without one
--   class: the class that is predicted
--   n: images
create view group_counts as
with predicted as (
    select run_id, image_id, label, class from images join predictions using (run_id, image_id)
),
annotated as (
    select run_id, name[3:] as attribute, 'annotation' as known_by, present, label, class, count(*) as n
    from (
        unpivot (select run_id, label, class, columns('^a_') from images join predictions using (run_id, image_id))
        on columns('^a_') into name name value present
    )
    group by run_id, name, present, label, class
),
seen as (  -- of an image, the same for all its seeds
    select run_id, image_id, any_value(columns('^p_')) from attributes where arm = 'guided' group by run_id, image_id
),
answered as (
    select run_id, name[3:] as attribute, 'oracle' as known_by, p > .5 as present, label, class, count(*) as n
    from (
        unpivot (select run_id, label, class, columns('^p_') from predicted join seen using (run_id, image_id))
        on columns('^p_') into name name value p
    )
    group by run_id, name, p > .5, label, class
)
from annotated
union all
from answered anti join (select distinct run_id, attribute from annotated) using (run_id, attribute);
