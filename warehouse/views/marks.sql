-- What reviewers say of the findings: the last mark that each reviewer gave each attribute, or each explanation.
-- `facts.reviews` keeps all that were ever given. Over: all reviews.
create view marks as
select *
from reviews
qualify row_number() over (partition by run_id, reviewer, attribute, image_id, method, seed order by written desc) = 1;
