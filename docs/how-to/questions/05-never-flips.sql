-- Which images never flip, whatever is tried?
select audit, path, label, predicted, count(*) as tries, round(max(p_target_cf), 3) as closest
from outcomes
group by audit, path, label, predicted
having not bool_or(flipped)
order by closest, path
limit 10;
