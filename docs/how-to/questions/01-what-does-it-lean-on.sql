-- Which attributes does the classifier lean on?
select attribute, round(effect, 3) as effect, round(low, 3) as low, round(high, 3) as high, round(q, 4) as q, verdict
from verdicts join audits using (run_id)
where name like '%planted'
order by rank;
