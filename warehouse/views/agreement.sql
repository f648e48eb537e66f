-- How far reviewers agree: of every two reviewers of the same thing, the share that gave it the same mark. Over: `marks` of things
-- that at least two reviewers judged.
-- Columns:
--   judged: things that at least two reviewers judged
--   pairs: pairs of reviewers of the same thing
--   value: share of the pairs that agree
create view agreement as
select
    run_id, count(distinct concat_ws(':', a.attribute, a.image_id, a.method, a.seed)) as judged,
    count(*) as pairs, avg((a.mark = b.mark)::int) as value
from marks a join marks b using (run_id)
where a.reviewer < b.reviewer
    and a.attribute is not distinct from b.attribute
    and a.image_id is not distinct from b.image_id
    and a.method is not distinct from b.method
    and a.seed is not distinct from b.seed
group by run_id;
