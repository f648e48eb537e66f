-- Every audit night after night: one row a finished run and quantity, to be drawn over `started`. What has changed by more than chance is
-- said by `cfx trend`, which pairs the images that nights have in common; two intervals here that overlap say less.
-- Over: finished runs. Ask with `where audit = ...`.
-- Columns:
--   audit: the name that the runs of one audit share
--   kind: accuracy; explained (the share of the answers that what was named explains); attribute, property, place (effects); predicted (share of a class among the answers); measured, confidence (means)
--   name: the attribute, property or place; the class that is predicted; else as the kind
--   class: the class whose probability is meant; null where none is
--   low, high: 95 % interval of this run alone; null below 5 images
--   confirmed: properties: the classifier relies on it; places: confirmed; else null
create view trend as
with means as (
    select run_id, kind, name, class, avg(value) as value, stddev_samp(value) as sd, count(*) as n
    from watched group by run_id, kind, name, class
    union all
    select run_id, 'predicted', predicted, null, avg(share), stddev_samp(share), count(*)
    from (
        select run_id, unnest(classes) as predicted, (predicted = p.class)::int::double as share
        from predictions p join (select run_id, classes from runs) using (run_id)
    )
    group by run_id, predicted
),
claimed as (
    select run_id, 'property' as kind, property as name, class, coalesce(kind = 'relies on', false) as relied_on from property_claims
),
measured as (
    select
        run_id, kind, name, class, value,
        if(n < 5, null, value - sd / sqrt(n) * normal_quantile(.025)) as low,
        if(n < 5, null, value + sd / sqrt(n) * normal_quantile(.025)) as high,
        n, relied_on as confirmed
    from means left join claimed using (run_id, kind, name, class)
    union all
    select run_id, 'explained', 'explained share', class, share, low, high, n, null from explained_share where share is not null
    union all
    select run_id, 'place', zone, class, effect, low, high, n, verdict = 'confirmed' from places
)
select run_id, audit, started, kind, name, class, value, low, high, n, confirmed
from measured join (select run_id, name as audit, started from runs where status = 'finished') using (run_id);
