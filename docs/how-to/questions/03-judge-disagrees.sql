-- In which explanations does the judge disagree with the flip?
select audit, path, predicted, target, round(p_target_cf, 3) as classifier_says, round(l1, 4) as l1
from outcomes
where flipped and not judge_flipped
order by audit, path
limit 10;
