-- What each run is held to by the gate: its newest policy. `facts.policies` keeps all that were ever set.
-- Over: runs that have a policy, which every audit writes.
create view policies as
select *
from facts.policies
qualify row_number() over (partition by run_id order by written desc) = 1;
