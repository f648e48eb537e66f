-- Which images never flip, whatever is tried?
select name, path, label, source, count(*) as tries, round(max(p_target_cf), 3) as closest
from outcomes join audits using (run_id)
group by name, path, label, source
having not bool_or(flipped)
order by closest, path
limit 10;
