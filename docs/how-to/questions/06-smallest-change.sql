-- Which images need the smallest change, with the judge's consent?
select audit, path, predicted, target, round(l1, 4) as l1, round(mask_fraction, 3) as mask
from outcomes
where flipped and judge_flipped
order by l1, audit, path
limit 5;
