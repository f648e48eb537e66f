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
with annotated as (
    select run_id, image_id, name[3:] as attribute, present, 'annotation' as known_by
    from (unpivot (select run_id, image_id, columns('^a_') from images) on columns('^a_') into name name value present)
),
seen as (
    select run_id, image_id, name[3:] as attribute, any_value(p > .5) as present, 'oracle' as known_by
    from (
        unpivot (select run_id, image_id, columns('^p_') from attributes where arm = 'guided')
        on columns('^p_') into name name value p
    )
    group by run_id, image_id, name
),
known as (
    from annotated
    union all
    from seen anti join (select distinct run_id, attribute from annotated) using (run_id, attribute)
)
select run_id, attribute, known_by, present, label, class, count(*) as n
from known
join predictions using (run_id, image_id)
join (select run_id, image_id, label from images) using (run_id, image_id)
group by run_id, attribute, known_by, present, label, class;
