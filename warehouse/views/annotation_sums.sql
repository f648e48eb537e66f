-- What CD needs of the annotations, summed per split: written down by an audit beside each shard of `attributes`, and made from
-- the images here for a run that lacks some.
-- Over: annotated images, of all splits.
create view annotation_sums as
with known as (
    select
        run_id, coalesce(split = 'train', false) as train, columns('^a_(.*)$')::int as "v_\1",
        case alias(columns('^a_(.*)$')) when 'a_' || target_attribute then columns('^a_(.*)$')::int end as "query_\1"
    from facts.unsummed_images join runs using (run_id)
),
paired as (
    select run_id, train, columns('^v_'), coalesce(*columns('^query_')) as query from known
)
select
    run_id, train,
    {
        'n': count(columns('^v_(.*)$') + query),
        'v': sum(if(query is null, null, columns('^v_(.*)$')))::bigint,
        'q': sum(if(columns('^v_(.*)$') is null, null, query))::bigint,
        'w': sum(columns('^v_(.*)$') * query)::bigint
    } as "s_\1"
from paired
group by run_id, train
union all by name
from facts.annotation_sums;
