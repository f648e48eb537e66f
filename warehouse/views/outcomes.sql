-- Guided explanations with what is known of their image: its label, its split, and whether the classifier was right about it.
-- Over: every guided explanation, flipped or not; `correct` is null where the image has no label.
-- Columns:
--   way: ladder, editor, or ladder after editor
--   correct: the classifier's class on the clean image is the label; null without a label
create view outcomes as
select
    e.run_id, e.image_id, e.method, e.seed, e.source, e.target, coalesce(e.way, 'ladder') as way, e.attempt,
    e.p_source, e.p_target, e.p_source_cf, e.p_target_cf,
    e.flipped, e.flipped_8bit, e.judge_flipped,
    p.class = i.label as correct,
    i.label, i.split, i.path,
    e.l1, e.l2, e.linf, e.mask_fraction, e.nfe_forward, e.nfe_backward, e.seconds, e.device
from explanations e
left join predictions p using (run_id, image_id)
left join images i using (run_id, image_id)
where e.arm = 'guided';
