-- Which earlier audit each run is compared with: the one that its policy names, otherwise the last audit of the same name before
-- it that finished. Over: runs that have such an audit.
-- Columns:
--   base_id: the audit it is compared with
--   chosen: by policy, or previous
create view bases as
with named as (
    select run_id, base as base_id, 'by policy' as chosen from policies where base is not null
),
previous as (
    select a.run_id, arg_max(b.run_id, (coalesce(b.number, 0), b.started)) as base_id, 'previous' as chosen
    from runs a join runs b
        on a.name = b.name and (coalesce(b.number, 0), b.started) < (coalesce(a.number, 0), a.started) and b.status = 'finished'
    where a.run_id not in (select run_id from named)
    group by a.run_id
)
from named union all from previous;
