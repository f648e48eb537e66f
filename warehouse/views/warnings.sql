-- What looks wrong, and may make every number of a run mean something else: found before it began, of a black box at its end; and
-- metrics that are not to be compared. Over: all runs; those from before there were warnings have only the metrics'.
-- Columns:
--   about: audit, or the metric with its encoder in brackets
--   warning: what is wrong, and the way out
create view warnings as
select run_id, 'audit' as about, unnest(warnings) as warning from runs
union all
select run_id, 'fid[' || encoder || ']', warning from fid where warning is not null;
