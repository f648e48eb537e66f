-- About whom is the classifier wrong: smiling faces without glasses, for one?
select
    audit,
    images.label,
    a_glasses as wears_glasses,
    count(*) as images,
    round(avg(correct::int), 3) as accuracy
from predictions
join images using (run_id, image_id)
where a_glasses is not null
group by all
order by all;
