-- Changes of the oracle's bits, for CD: `query` is the change of the run's target attribute, null where it has none.
-- Over: guided explanations of `admitted` that flipped.
-- Columns:
--   v_<attribute>: change of that attribute's bit, -1, 0 or 1
--   query: change of the target attribute's bit
create view changed as
with known as (
    select
        run_id, method, image_id,
        columns('^c_(.*)$') as "v_\1",
        case alias(columns('^c_(.*)$')) when 'c_' || target_attribute then columns('^c_(.*)$') end as "query_\1"
    from attributes
    join admitted using (run_id, image_id, method, arm, seed)
    join (select run_id, target_attribute from runs) using (run_id)
    where arm = 'guided' and flipped
)
select run_id, method, image_id, columns('^v_'), coalesce(*columns('^query_')) as query from known;
