-- What each run is called and when it began: three columns to join other views with, none of which they have themselves.
-- Over: all runs.
create view audits as
select run_id, name, started from runs;
