-- What the rules of `gate` come to, one row a run. Over: runs with a policy.
-- Columns:
--   verdict: fail if any rule fails, otherwise inconclusive if any is undecided, otherwise pass
--   passed, failed, undecided: how many rules ended so
--   images_needed: how many images would decide all that is undecided
--   reasons: of the rules that made the verdict, in words
create view gate_verdicts as
select
    run_id, verdict,
    count_if(result = 'pass') as passed,
    count_if(result = 'fail') as failed,
    count_if(result = 'inconclusive') as undecided,
    max(images_needed) as images_needed,
    if(verdict = 'pass', [format('all {} release checks passed', count(*))], list(reason order by place, subject) filter (where result = verdict))
        as reasons
from gate
group by run_id, verdict;
