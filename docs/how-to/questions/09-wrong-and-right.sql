-- Are images that the classifier gets wrong easier to flip?
select
    audit,
    if(correct, 'right', 'wrong') as classifier_was,
    count(*) as images,
    round(avg(flipped::int), 3) as flip_rate,
    round(avg(l1), 4) as change
from outcomes
where correct is not null
group by all
order by all;
