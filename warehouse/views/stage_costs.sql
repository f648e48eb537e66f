-- What each stage of an audit cost. Over: all its shards; what was left of a killed run counts with the run that finished it.
-- Columns:
--   stage: the fact that it wrote
--   shards: pieces of work, each one shard but for ingesting
--   seconds: time inside the stage, added up over the shards
--   wall_seconds: from the first beginning to the last end
--   queued_seconds: median time from the end of a shard's stage before, on the same images, to the beginning of this one
--   workers: processes that took part
--   nfe_forward, nfe_backward: UNet evaluations, and those differentiated through; null where a stage has none
--   busy_share: share of `seconds` that the device computed, over the shards where that is known (`stages`); the rest is waiting
create view stage_costs as
with ordered as (
    select
        *, epoch(ended - began) as seconds,
        greatest(0, epoch(began - lag(ended) over (partition by run_id, shard order by began))) as queued
    from stages
),
evaluations as (
    select
        run_id, 'explanations' as stage,
        sum(nfe_forward)::bigint as nfe_forward, sum(nfe_backward)::bigint as nfe_backward
    from explanations group by run_id
)
select
    run_id, stage, count(*) as shards, sum(seconds) as seconds, epoch(max(ended) - min(began)) as wall_seconds,
    median(queued) as queued_seconds, count(distinct (host, process)) as workers,
    any_value(nfe_forward) as nfe_forward, any_value(nfe_backward) as nfe_backward,
    sum(busy_seconds) / nullif(sum(seconds) filter (busy_seconds is not null), 0) as busy_share
from ordered left join evaluations using (run_id, stage)
group by run_id, stage;
