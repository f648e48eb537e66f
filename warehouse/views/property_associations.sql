-- What goes with what, before anything is explained: the correlation of each measured property of the images with the label of a class,
-- and with the classifier's probability of it. Association only: a classifier may well ignore what goes with its label.
-- Over: images with a prediction whose property is known; classes that are the label or the prediction of at least one of them.
-- Columns:
--   property: brightness, warmth, compression …
--   class: the class whose label and probability are meant
--   n: images
--   mean: of the property
--   sd: its standard deviation; 0 where these images do not vary in it
--   r_label: correlation with being labelled as the class; null without labels, or where one of the two does not vary
--   r_answer: correlation with the probability of the class
create view property_associations as
with measured as (
    select run_id, image_id, name[3:] as property, value
    from (unpivot (select run_id, image_id, columns('^m_') from properties) on columns('^m_') into name name value value)
),
answers as (
    select
        run_id, image_id, unnest(classes) as class, unnest(probabilities) as p,
        unnest(list_transform(classes, c -> (c = label)::int)) as labelled, unnest(list_transform(classes, c -> c = p.class)) as said
    from predictions p
    join images using (run_id, image_id)
    join (select run_id, classes from runs) using (run_id)
)
select
    run_id, property, class, count(*)::int as n, avg(value) as mean, stddev_pop(value) as sd,
    if(stddev_pop(value) > 0 and stddev_pop(labelled) > 0, corr(value, labelled), null) as r_label,
    if(stddev_pop(value) > 0 and stddev_pop(p) > 0, corr(value, p), null) as r_answer
from measured join answers using (run_id, image_id)
group by run_id, property, class
having coalesce(max(labelled), 0) = 1 or max(said);
