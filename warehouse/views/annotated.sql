-- Annotations as numbers, for CD: `query` is the annotation of the run's target attribute, null where it has none.
-- Over: the rows of `annotations` where a run has some; else annotated images of the train split, or all without such a split.
-- Columns:
--   v_<attribute>: the annotation of that attribute, 0 or 1
--   query: the annotation of the target attribute
create view annotated as
with known as (
    select
        run_id, image_id,
        columns('^a_(.*)$')::int as "v_\1",
        case alias(columns('^a_(.*)$')) when 'a_' || target_attribute then columns('^a_(.*)$')::int end as "query_\1"
    from images join runs using (run_id)
    where (split = 'train' or run_id not in (select run_id from images where split = 'train'))
        and run_id not in (select run_id from annotations)
    union all by name
    select
        run_id, row::varchar as image_id,
        columns('^a_(.*)$')::int as "v_\1",
        case alias(columns('^a_(.*)$')) when 'a_' || target_attribute then columns('^a_(.*)$')::int end as "query_\1"
    from annotations join runs using (run_id)
)
select run_id, image_id, columns('^v_'), coalesce(*columns('^query_')) as query from known;
