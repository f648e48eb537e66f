-- The last event of each run: started, finished or failed, with everything that is needed to run it again.
-- Over: all runs.
create view runs as
select *
from facts.runs
qualify row_number() over (partition by run_id order by coalesce(finished, started) desc, finished is null) = 1;
