-- Each direction's sums under resampling. `kind` data (resample 0): the sums themselves; bootstrap (1 to 2000): every bucket
-- counted Poisson(1) times, which is drawing buckets with replacement; sign flip (2001 to 4000): every bucket's difference
-- times 1 or -1, as the null hypothesis allows. An effect is d_<attribute> / pairs. Nothing is random: a draw is a hash of bucket
-- and resample, the same in all directions and attributes. Of more than two classes also each class asked for, from all sources
-- together; directions and classes of fewer than 8 images (`fewest_images()`) are left out. Over: `buckets`.
-- Columns:
--   source: null for several sources together
--   pooled: towards one class from all sources together, of more than two classes
--   kind: data, bootstrap or sign flip
--   resample: 0 for the data, then 1 to 4,000
--   images: different images
--   pairs: images and seeds, as often as they were drawn
--   d_<attribute>: the sum under this resampling; an effect is d_<attribute> / pairs
create macro poisson(u) as (  -- quantile u of Poisson(1): how many of its cumulative probabilities lie at or below u
    case
        when u < .36787944117144233 then 0 when u < .7357588823428847 then 1 when u < .9196986029286058 then 2
        when u < .9810118431238462 then 3 when u < .9963401531726563 then 4 when u < .9994058151824183 then 5
        when u < .9999167588507119 then 6 when u < .9999897508033253 then 7 when u < .999998874797402 then 8 else 9
    end::double
);
create macro uniforms(hashes) as (list_transform(hashes, lambda h: h / 18446744073709551616));  -- hashes as numbers from 0 to 1
create macro bootstrap_weights(lots, resample) as (  -- how often each of these numbers is drawn in a resample, 1 to 4,000
    -- One step a list: DuckDB computes what a macro is given wherever its body names it.
    list_transform(uniforms(list_transform(lots, lambda lot: hash(lot * 4096 + resample))), lambda u: poisson(u))
);
create macro widened(n) as (  -- a percentile interval of n values is too short by this: sqrt(n / (n - 1)) t(n - 1) / z, to 1 % from n = 5
    if(n < 2, 1, sqrt(n / (n - 1)) * (1 + 1.2104 / (n - 1) + 1.4361 / power(n - 1, 2) + 1.3 / power(n - 1, 3)))
);
create macro fewest_images() as (8);  -- images that a direction, or a class asked for, needs in a run of more than two classes
create macro within(x, most) as (  -- a bound of a change that is never beyond +- most, such as that of a probability beyond +- 1
    if(x is null, null, greatest(-most, least(most, x)))
);
create view resamples as
with sources as (
    select run_id, method, target, if(count(distinct source) = 1, any_value(source), null) as source
    from buckets
    group by run_id, method, target
),
towards as (
    -- Of many classes: towards one class, from wherever.
    select run_id, method, sources.source, target, true as pooled, bucket, sum(images) as images, sum(pairs) as pairs, sum(columns('^d_'))
    from buckets join sources using (run_id, method, target)
    group by run_id, method, sources.source, target, bucket
),
grains as (
    select run_id, method, source, target, false as pooled, bucket, images, pairs, columns('^d_') from buckets
    union all by name
    from towards
),
directions as (
    select
        run_id, method, source, target, pooled, sum(images) as images,
        list(bucket order by bucket) as buckets,
        list(pairs::double order by bucket) as pairs,
        list(columns('^d_') order by bucket) filter (columns('^d_') is not null)
    from grains join (select run_id, len(classes) > 2 as many from runs) using (run_id)
    where many or not pooled
    group by run_id, method, source, target, pooled
    having bool_or(not many) or sum(images) >= fewest_images()
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
            when 'bootstrap' then list_transform(uniforms(hashes), lambda u: poisson(u))
            else list_transform(hashes, lambda h: if(h % 2 = 0, 1, -1)::double)
        end as weights
    from hashed
)
select
    run_id, method, source, target, pooled, kind, resample, images,
    if(kind = 'sign flip', list_sum(pairs), list_dot_product(pairs, weights)) as pairs,
    list_dot_product(columns('^d_'), weights)
from weighted;
