-- The last event of each run: started, finished or failed, with everything that is needed to run it again. Which is the last is
-- told by the number of each event, because clocks jump; of events with the same number by their times.
-- Over: all runs.
create view runs as
select *
from facts.runs
qualify row_number() over (partition by run_id order by event desc nulls last, coalesce(finished, started) desc, finished is null) = 1;
