-- What does a flipped explanation cost?
select
    audit,
    count_if(flipped) as flipped,
    round(sum(nfe_forward) / count_if(flipped), 1) as unet_evaluations,
    round(avg(attempt + 1), 2) as rungs_tried
from outcomes
group by audit
order by audit;
