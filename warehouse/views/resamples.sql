-- Each direction's sums under resampling. `kind` data (resample 0): the sums themselves; bootstrap (1 to 2000): every bucket
-- counted Poisson(1) times, which is drawing buckets with replacement; sign flip (2001 to 4000): every bucket's difference
-- times 1 or -1, as the null hypothesis allows. An effect is d_<attribute> / pairs. Nothing is random: a draw is a hash of bucket
-- and resample, the same in all directions and attributes. Over: `buckets`.
-- Columns:
--   kind: data, bootstrap or sign flip
--   resample: 0 for the data, then 1 to 4,000
--   images: different images
--   pairs: images and seeds, as often as they were drawn
--   d_<attribute>: the sum under this resampling; an effect is d_<attribute> / pairs
create macro poisson(u) as (  -- quantile u of Poisson(1): how many of its cumulative probabilities lie at or below u
    (u >= .36787944117144233)::double + (u >= .7357588823428847)::double + (u >= .9196986029286058)::double
    + (u >= .9810118431238462)::double + (u >= .9963401531726563)::double + (u >= .9994058151824183)::double
    + (u >= .9999167588507119)::double + (u >= .9999897508033253)::double + (u >= .999998874797402)::double
);
create macro bootstrap_weights(lots, resample) as (  -- how often each of these numbers is drawn in a resample, 1 to 4,000
    list_transform(lots, lambda lot: poisson(hash(lot * 4096 + resample) / 18446744073709551616))
);
create macro widened(n) as (  -- a percentile interval of n values is too short by this: sqrt(n / (n - 1)) t(n - 1) / z, to 1 % from n = 5
    if(n < 2, 1, sqrt(n / (n - 1)) * (1 + 1.2104 / (n - 1) + 1.4361 / power(n - 1, 2) + 1.3 / power(n - 1, 3)))
);
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
hashed as (
    select
        directions.*, resample,
        case when resample = 0 then 'data' when resample <= 2000 then 'bootstrap' else 'sign flip' end as kind,
        -- Of one number, because DuckDB's hash of two is the xor of two hashes: all buckets would flip alike.
        list_transform(buckets, lambda bucket: hash(bucket * 4096 + resample)) as hashes
    from directions cross join (select range as resample from range(4001))
),
weighted as (
    select
        *,
        case kind
            when 'data' then list_transform(hashes, lambda h: 1::double)
            when 'bootstrap' then list_transform(hashes, lambda h: poisson(h / 18446744073709551616))
            else list_transform(hashes, lambda h: if(h % 2 = 0, 1, -1)::double)
        end as weights
    from hashed
)
select
    run_id, method, source, target, kind, resample, images,
    if(kind = 'sign flip', list_sum(pairs), list_dot_product(pairs, weights)) as pairs,
    list_dot_product(columns('^d_'), weights)
from weighted;
