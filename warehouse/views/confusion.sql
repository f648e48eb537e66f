-- The confusion matrix, one row a pair of label and predicted class that occurs; the others are 0.
-- Over: images with a label and a prediction.
-- Columns:
--   label: the class that the data set gives
--   class: the class that is predicted
--   n: images with this label that are predicted as this class
--   value: their share among the images with this label
create view confusion as
select
    run_id, label, class, count(*) as n,
    count(*) / sum(count(*)) over (partition by run_id, label) as value
from predictions join images using (run_id, image_id)
where label is not null
group by run_id, label, class;
