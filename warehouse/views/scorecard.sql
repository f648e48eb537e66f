-- Every metric of every run in one table: run_id, metric, method, value, n. A metric that sees through an encoder is named with
-- it, as in fid[oracle]. `fr_null` is the flip rate with guidance weight 0; costs and distances are means.
-- Over: each metric's own population; costs and distances over every guided explanation.
-- Columns:
--   metric: what is measured, with its encoder in brackets
--   value: in the metric's own unit
--   n: what the value is a mean over
create view scorecard as
with means as (
    select
        run_id, method, count(*) as n,
        avg(flipped_8bit::int) as fr_8bit,
        avg(l1) as l1, avg(l2) as l2, avg(linf) as linf, avg(mask_fraction) as mask_fraction,
        avg(nfe_forward) as nfe_forward, avg(nfe_backward) as nfe_backward, avg(seconds) as seconds
    from explanations
    where arm = 'guided'
    group by run_id, method
),
plain as (
    select run_id, 'fr' as metric, method, value, n from fr
    union all
    select run_id, 'fr_null', method, avg(flipped::int), count(*) from explanations where arm = 'null' group by run_id, method
    union all
    -- Of a prior over latents: what its autoencoder alone changes, and what the null run does, where nothing steers.
    select run_id, 'autoencoder_l1', method, round(avg(autoencoder_l1), 9), count(*)
    from explanations where arm = 'null' and autoencoder_l1 is not null group by run_id, method
    union all
    select run_id, 'l1_null', method, round(avg(l1), 9), count(*)
    from explanations where arm = 'null' and autoencoder_l1 is not null group by run_id, method
    union all
    select run_id, 'judge_fr', method, value, n from judge_fr
    union all
    select run_id, 'confidence', method, value, n from confidence
    union all
    select run_id, 'bkl', method, value, n from bkl
    union all
    select run_id, 'mnac', method, value, n from mnac
    union all
    select run_id, 'cd', method, value, n from cd
    union all
    select run_id, 'cout', method, value, n from cout
    union all
    select run_id, 'im1', method, value, n from im1
    union all
    select run_id, 'im2', method, value, n from im2
    union all
    -- Nine decimals: the last digits of a mean depend on the order of its sum.
    select run_id, metric, method, round(value, 9), n
    from (unpivot means on columns(* exclude (run_id, method, n)) into name metric value value)
),
encoded as (
    select run_id, 'fid' as metric, encoder, method, value, n from fid
    union all
    select run_id, 'sfid', encoder, method, value, n from sfid
    union all
    select run_id, 'kid', encoder, method, value, n from kid
    union all
    select run_id, 'crossover_fid', encoder, method, value, n from crossover_fid
    union all
    select run_id, 'fva', encoder, method, value, n from fva
    union all
    select run_id, 'fs', encoder, method, value, n from fs
    union all
    select run_id, 's3', encoder, method, value, n from s3
    union all
    select run_id, 'insertion', encoder, method, value, n from insertion
    union all
    select run_id, 'deletion', encoder, method, value, n from deletion
    union all
    select run_id, 'diversity', encoder, method, value, n from diversity
    union all
    select run_id, measure, encoder, method, value, n from distances
)
select run_id, metric, method, value, n from plain
union all
select run_id, if(encoder is null, metric, metric || '[' || encoder || ']'), method, value, n from encoded;
