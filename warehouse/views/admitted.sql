-- The explanations that statistics of attributes rest on: all, unless the run has an editor that is not shown to change every attribute as
-- the ladder does (`editors`: two one-sided tests within the run's margin). Then those of images that the ladder explained at once, which
-- nobody chose; where it explained what the editor failed on, they are the hard ones, and are left out with the editor's own.
-- Over: every explanation with its null, flipped or not.
-- Columns:
--   way: ladder, editor, or ladder after editor
create view admitted as
select
    run_id, image_id, method, arm, seed, source, target, flipped, judge_flipped, coalesce(way, 'ladder') as way
from explanations
where coalesce(way, 'ladder') = 'ladder' or run_id not in (select run_id from editors where measure = 'shift' and not equivalent);
