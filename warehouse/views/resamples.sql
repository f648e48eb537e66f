-- Each direction's sums under resampling. `kind` data (resample 0): the sums themselves; bootstrap (1 to 2000): every bucket
-- counted Poisson(1) times, which is drawing buckets with replacement; sign flip (2001 to 4000): every bucket's difference
-- times 1 or -1, as the null hypothesis allows. An effect is d_<attribute> / pairs. Nothing is random: a draw is a hash of bucket
-- and resample, the same in all directions and attributes. Over: `buckets`.
create view resamples as
with directions as (
    select
        run_id, method, source, target, sum(images) as images,
        list(bucket order by bucket) as buckets,
        list(pairs::double order by bucket) as pairs,
        list(columns('^d_') order by bucket) filter (columns('^d_') is not null)
    from buckets
    group by run_id, method, source, target
),
draws as (
    select
        directions.*, resample,
        case when resample = 0 then 'data' when resample <= 2000 then 'bootstrap' else 'sign flip' end as kind,
        list_transform(buckets, lambda bucket: hash(bucket * 4096 + resample)) as hashes
    from directions cross join (select range as resample from range(4001))
),
weighted as (
    select
        * exclude (hashes, buckets),
        case kind
            when 'data' then list_transform(hashes, lambda h: 1.0::double)
            when 'sign flip' then list_transform(hashes, lambda h: if(h % 2 = 0, 1.0::double, -1))
            else list_transform(hashes, lambda h: ((h >= 6786177901268885274)::int + (h >= 13572355802537770549)::int
                + (h >= 16965444753172213186)::int + (h >= 18096474403383694065)::int + (h >= 18379231815936564285)::int
                + (h >= 18435783298447138329)::int + (h >= 18445208545532234003)::int + (h >= 18446555009401533385)::int
                + (h >= 18446723317385195807)::int)::double)
        end as weights
    from draws
)
select
    run_id, method, source, target, kind, resample, images,
    if(kind = 'sign flip', list_sum(pairs), list_dot_product(pairs, weights)) as pairs,
    list_dot_product(columns('^d_'), weights)
from weighted;
