-- Which images need the smallest change, with the judge's consent?
select name, path, source, target, round(l1, 4) as l1, round(mask_fraction, 3) as mask
from outcomes join audits using (run_id)
where flipped and judge_flipped
order by l1, name, path
limit 5;
