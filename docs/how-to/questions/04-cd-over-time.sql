-- How did CD move over the last five audits?
select audit, strftime(started, '%Y-%m-%d') as day, round(value, 3) as cd, n, unchanged
from cd join audits using (run_id)
order by started desc, audit
limit 5;
