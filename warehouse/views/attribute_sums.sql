-- What the statistics need of the attributes, summed per direction and bucket of images. An audit writes these sums down beside
-- each shard of `attributes`, so that a question over millions of explanations reads thousands of rows; for a run that lacks some
-- they are made from its rows here, by the same SQL. Sums of changes are rounded to multiples of 2^-24, the grid of float32 in
-- [.5, 1]: they are exact in any order, so no answer depends on shards or threads.
-- Over: `admitted`: every explanation with its null for images, pairs and d_; guided explanations that flipped for the others.
create view attribute_sums as
with arms as (
    select run_id, method, image_id, seed, count(*) as n from facts.unsummed_attributes group by run_id, method, image_id, seed
),
guided as (
    select run_id, method, image_id, seed, source, target, flipped, n = 2 as paired
    from admitted join arms using (run_id, method, image_id, seed)
    where arm = 'guided'
),
moved as (
    select
        run_id, method, source, target, image_id, paired, arm = 'guided' and flipped as counted,
        if(arm = 'guided', 1, -1) as sign, columns('^[dc]_'),
        case alias(columns('^c_(.*)$')) when 'c_' || target_attribute then columns('^c_(.*)$') end as "query_\1"
    from facts.unsummed_attributes
    join guided using (run_id, method, image_id, seed)
    left join (select run_id, target_attribute from runs) using (run_id)
),
known as (
    select
        run_id, method, source, target, image_id, paired, counted, sign, columns('^[dc]_'), coalesce(*columns('^query_')) as query
    from moved
)
select
    run_id, method, source, target, (hash(image_id) % 1024)::bigint as bucket,
    count(distinct image_id) filter (paired) as images, count(*) filter (paired) // 2 as pairs,
    count(*) filter (counted) as flips,
    (sum(query) filter (counted))::bigint as query, (sum(abs(query)) filter (counted))::bigint as query_size,
    sum(sign * round(columns('^d_') * 16777216) / 16777216) filter (paired),
    {
        'v': (sum(columns('^c_(.*)$')) filter (counted))::bigint,
        'u': (sum(abs(columns('^c_(.*)$'))) filter (counted))::bigint,
        'w': (sum(columns('^c_(.*)$') * query) filter (counted))::bigint
    } as "s_\1"
from known
group by run_id, method, source, target, bucket
union all by name
from facts.attribute_sums;
