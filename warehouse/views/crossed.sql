-- The sets that the crossover FID compares. The run's classes are cut in two halves, in their order; `towards` is the half that
-- a counterfactual goes to. side counterfactual: those that go from one half to the other; real: images that belong to that half
-- by their label, or by the prediction where they have none. An image that stays what it was then looks like the wrong half.
-- Over: every guided explanation across the halves, flipped or not; every image, explained or not.
-- Columns:
--   side: real, or counterfactual
--   towards: the half of the classes, first or second
create view crossed as
with halves as (
    select run_id, unnest(classes) as class, if(generate_subscripts(classes, 1) * 2 > len(classes) + 1, 'second', 'first') as half
    from runs
),
crossing as (
    select e.run_id, image_id, method, arm, seed, goal.half as towards
    from explanations e
    join halves start on start.run_id = e.run_id and start.class = source
    join halves goal on goal.run_id = e.run_id and goal.class = target
    where arm = 'guided' and start.half <> goal.half
),
members as (
    select run_id, image_id, half as towards
    from images left join predictions using (run_id, image_id) join halves using (run_id)
    where coalesce(label, predictions.class) = halves.class
),
methods as (
    select distinct run_id, method from explanations where arm = 'guided'
)
select run_id, methods.method, f.encoder, 'real' as side, towards, image_id, vector
from features f join members using (run_id, image_id) join methods using (run_id)
where f.method is null
union all
select run_id, method, encoder, 'counterfactual', towards, image_id, vector
from features join crossing using (run_id, image_id, method, arm, seed);
