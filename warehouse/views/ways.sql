-- How the explanations of a run came, one row a way: from the ladder, from its editor, or from the ladder after a proposal of the editor
-- that failed; with metrics of each. A run without an editor has one row.
-- Over: every guided explanation, flipped or not.
-- Columns:
--   way: ladder, editor, or ladder after editor
--   n: guided explanations
--   flip_rate: share that the audited classifier assigns to the target class
--   judge_flip_rate: share that the judge does; null without a judge
--   confidence: the classifier's mean probability of the target class
--   l1: mean |difference|, images on [0, 1]
--   mask_fraction: mean share of pixels that the mask lets change
--   nfe_forward: mean denoiser evaluations, with those of a proposal that failed
--   seconds: mean time, likewise
--   admitted: how many of them the statistics of attributes rest on (`admitted`)
create view ways as
select
    run_id, method, coalesce(e.way, 'ladder') as way, count(*) as n,
    round(avg(e.flipped::int), 9) as flip_rate, round(avg(e.judge_flipped::int), 9) as judge_flip_rate,
    round(avg(p_target_cf), 9) as confidence, round(avg(l1), 9) as l1, round(avg(mask_fraction), 9) as mask_fraction,
    round(avg(nfe_forward), 9) as nfe_forward, round(avg(seconds), 9) as seconds,
    count(a.image_id) as admitted
from explanations e
left join admitted a using (run_id, method, image_id, seed, arm)
where arm = 'guided'
group by run_id, method, coalesce(e.way, 'ladder');
