-- In which explanations does the judge disagree with the flip?
select name, path, source, target, round(p_target_cf, 3) as classifier_says, round(l1, 4) as l1
from outcomes join audits using (run_id)
where flipped and not judge_flipped
order by name, path
limit 10;
