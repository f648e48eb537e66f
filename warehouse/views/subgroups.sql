-- How the classifier and the explanations do on each annotated group of images: those with an attribute, and those without.
-- Over: images with a prediction and that annotation; flip rates over their guided explanations. Groups of fewer than 20 images
-- have their rates withheld (`reported` is false): they would say little, and might point at persons.
-- Columns:
--   present: the group has the attribute; false: it has not
--   n: images of the group
--   reported: the group is large enough
--   accuracy: share that the classifier gets right; null without labels
--   flip_rate: share of explanations that flip
--   judge_flip_rate: share of explanations after which the judge agrees
create macro smallest_group() as (  -- images: a smaller group is not reported, because its rates would point at persons
    20
);
create view subgroups as
with flips as (
    select run_id, image_id, avg(flipped::int) as flip, avg(judge_flipped::int) as judge_flip
    from explanations where arm = 'guided' group by run_id, image_id
),
annotated as (
    select
        i.run_id, columns('^a_'), (p.class = i.label)::int as correct, flip, judge_flip
    from images i
    join predictions p using (run_id, image_id)
    left join flips using (run_id, image_id)
),
grouped as (
    select
        run_id, name[3:] as attribute, present, count(*) as n,
        avg(correct) as accuracy, avg(flip) as flip_rate, avg(judge_flip) as judge_flip_rate
    from (unpivot annotated on columns('^a_') into name name value present)
    group by run_id, name, present
)
select
    run_id, attribute, present, n, n >= smallest_group() as reported,
    if(reported, accuracy, null) as accuracy,
    if(reported, flip_rate, null) as flip_rate,
    if(reported, judge_flip_rate, null) as judge_flip_rate
from grouped;
