-- Metrics that a run does not have, each with the reason and the way to have it. No other encoder stands in for a missing one.
-- Over: every run that was compared.
-- Columns:
--   metric: with its encoder in brackets
--   reason: why it is absent, and the way to have it
create view absent as
select run_id, method, metric || if(encoder is null, '', '[' || encoder || ']') as metric, absent as reason
from set_metrics
where absent is not null;
