-- What people call the claims that had no name: the last name that each was given. `facts.names` keeps all that were ever given.
-- Over: claims on cards, properties and places.
create view given_names as
select *
from names
qualify row_number() over (partition by run_id, kind, claim order by written desc) = 1;
