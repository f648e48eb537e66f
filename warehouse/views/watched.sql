-- What is watched from night to night, image by image: numbers whose means say how the classifier does and what it reacts to
-- (accuracy, attribute, property), and numbers whose distributions say what the images are like (measured, confidence).
-- Over: images with a prediction; accuracy: those with a label; attribute: edits that count; property: probes that count.
-- Columns:
--   kind: accuracy, attribute or property (means); measured or confidence (distributions)
--   name: the attribute that was edited, the property that was probed or measured; else as the kind
--   class: the class whose probability is meant; null where none is
--   value: accuracy: 1 right, 0 wrong; attribute: change of P(class) by its edit; property: P(class) moved up less moved down; confidence: the largest probability
create view watched as
select run_id, 'accuracy' as kind, 'accuracy' as name, null::varchar as class, image_id, (p.class = label)::int::double as value
from predictions p join images using (run_id, image_id)
where label is not null
union all
select run_id, 'attribute', attribute, target, image_id, change from edit_effects where counted
union all
select
    run_id, 'property', probe, class, image_id,
    sum(p_after) filter (direction = 'up') - sum(p_after) filter (direction = 'down')
from probes where counted
group by run_id, probe, class, image_id
union all
select run_id, 'measured', name[3:], null, image_id, value
from (unpivot (select run_id, image_id, columns('^m_') from properties) on columns('^m_') into name name value value)
union all
select run_id, 'confidence', 'confidence', null, image_id, list_max(probabilities)::double from predictions;
