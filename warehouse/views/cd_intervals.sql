-- CD with what it is worth at this number of images: its bootstrap interval, and the noise floor, the CD that a perfect explainer
-- would score. A perfect explainer moves attributes as they vary together in the data: its changes are the differences of two
-- annotated images drawn at random. Sampling alone then parts c from c_cf, by a variance that both their sample sizes add to; 200
-- draws of 256 give that variance per attribute, and the mean of |c - c_cf| under it is sqrt(2 / pi) of its root. A CD near its
-- floor says that no better explainer could be distinguished from this one. Never NaN: a constant column correlates 0.
-- Over: as in `cd`.
-- Columns:
--   value: CD
--   low, high: 95 % interval over the explained images (500 Poisson resamples of 1,024 buckets), the annotations as they are
--   floor: the CD that a perfect explainer would score
--   n: explanations that flipped
--   unchanged: attributes that changed in no image
create view cd_intervals as
with lots as (
    -- A bucket is hash(image_id) % 1024; changes are -1, 0 or 1, so a square is an absolute value.
    select
        run_id, method, (hash(image_id) % 1024)::bigint as bucket,
        count(*)::double as m, sum(query)::double as q, sum(abs(query))::double as qq,
        {'v': sum(columns('^v_(.*)$')), 'vv': sum(abs(columns('^v_(.*)$'))), 'vq': sum(columns('^v_(.*)$') * query)} as "v_\1"
    from changed
    where query is not null
    group by run_id, method, bucket
),
listed as (
    select
        run_id, method, attribute, list(bucket order by bucket) as buckets,
        list(m order by bucket) as m, list(q order by bucket) as q, list(qq order by bucket) as qq,
        list(s.v::double order by bucket) as v, list(s.vv::double order by bucket) as vv, list(s.vq::double order by bucket) as vq
    from (unpivot lots on columns('^v_') into name attribute value s)
    where s.v is not null  -- an attribute of another run
    group by run_id, method, attribute
),
weighted as (
    select
        listed.*, resample,
        bootstrap_weights(buckets, resample) as w
    from listed cross join (select unnest(range(1, 501)) as resample)
),
sums as (
    select
        run_id, method, attribute, resample,
        list_dot_product(m, w) as m, list_dot_product(q, w) as q, list_dot_product(qq, w) as qq,
        list_dot_product(v, w) as v, list_dot_product(vv, w) as vv, list_dot_product(vq, w) as vq
    from weighted
),
wanted as (
    unpivot (select run_id, corr(columns('^v_'), query) from annotated group by run_id) on columns('^v_') into name attribute value c
),
drawn as (
    select
        run_id, method, resample,
        -- A product of variances that is 0 up to rounding is a constant column.
        sum(abs(if(isnan(c), 0, c) - coalesce(
            (m * vq - v * q) / nullif(if((m * vv - v * v) * (m * qq - q * q) > 1e-6, sqrt((m * vv - v * v) * (m * qq - q * q)), 0), 0),
            0
        ))) as value
    from sums join wanted using (run_id, attribute)
    group by run_id, method, resample
),
spread as (
    select run_id, method, stddev_samp(value) as sd from drawn group by run_id, method
),
numbered as (
    select
        run_id, row_number() over (partition by run_id order by image_id) - 1 as place, count(*) over (partition by run_id) as images,
        columns('^v_'), query
    from annotated
    where query is not null
),
places as (
    select run_id, images, draw, hash(draw) % images as place, if(draw % 2 = 0, 1, -1) as sign
    from (select distinct run_id, images from numbered) cross join (select unnest(range(0, 102400)) as draw)
),
sampled as (
    select run_id, images, draw // 512 as resample, draw // 2 as pair, sign, columns('^v_'), query
    from places join numbered using (run_id, images, place)
),
differences as (
    select run_id, resample, pair, sum(sign * columns('^v_')), sum(sign * query) as query from sampled group by run_id, resample, pair
),
of_pairs as (
    unpivot (select run_id, resample, corr(columns('^v_'), query) from differences group by run_id, resample)
    on columns('^v_') into name attribute value c
),
of_images as (
    unpivot (
        select run_id, images, resample, corr(columns('^v_'), query) from sampled where sign = 1 group by run_id, images, resample
    ) on columns('^v_') into name attribute value c
),
variances as (
    select
        run_id, attribute, max(images) as images,
        256 * var_samp(if(isnan(p.c), 0, p.c)) as of_pair, 256 * var_samp(if(isnan(i.c), 0, i.c)) as of_image
    from of_pairs p join of_images i using (run_id, attribute, resample)
    group by run_id, attribute
),
explained as (
    select run_id, method, count(distinct image_id) as explained from changed group by run_id, method
),
floors as (
    select run_id, method, sum(sqrt(2 / pi() * (of_pair / explained + of_image / images))) as floor
    from explained join variances using (run_id)
    group by run_id, method
)
select
    run_id, method, value, greatest(0, value - 1.96 * sd) as low, value + 1.96 * sd as high, floor, n, unchanged
from cd join spread using (run_id, method) join floors using (run_id, method);
