-- Judge flip rate: the share of counterfactuals that a second classifier, never used for guidance, assigns to the target class.
-- Far below FR, the counterfactuals fool the audited classifier alone. Over: every guided explanation that the judge saw.
-- Columns:
--   value: share, 0 to 1
--   n: guided explanations that the judge saw
create view judge_fr as
select run_id, method, avg(judge_flipped::int) as value, count(*) as n
from explanations
where arm = 'guided' and judge_flipped is not null
group by run_id, method;
