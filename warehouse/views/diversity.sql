-- Diversity, sigma_L: LPIPS between the counterfactuals of one image under different seeds, a mean over its pairs of seeds (of n
-- seeds, 2 / (n (n - 1)) of the sum), then over images. Higher is more diverse.
-- Over: images whose explanations all flipped, or all did not, under every seed of the run, right or wrong before.
-- Columns:
--   value: mean LPIPS, 0 where all seeds agree
--   n: images
create view diversity as
with alike as (
    select run_id, method, image_id, count(*) as seeds
    from explanations
    where arm = 'guided'
    group by run_id, method, image_id
    having bool_and(flipped) or not bool_or(flipped)
),
spread as (
    select run_id, method, encoder, image_id, avg(lpips) as lpips
    from pairs join alike using (run_id, method, image_id) join (select run_id, len(seeds) as wanted from runs) using (run_id)
    where arm = 'guided' and alike.seeds = wanted
    group by run_id, method, encoder, image_id
)
select run_id, method, round(avg(lpips), 9) as value, count(*) as n, encoder
from spread
group by run_id, method, encoder;
