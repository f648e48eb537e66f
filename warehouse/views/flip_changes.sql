-- Which images flip in one audit and not in another, `run_id` against `base_id`: the same image, seed and target class.
-- Ask with `where run_id = ... and base_id = ...`. Over: guided explanations that both audits have.
-- Columns:
--   base_id: the audit it is compared with
--   pairs: explanations that both have
--   both_flip, only_run, only_base, neither: how many of them flip where
--   change: difference of the two flip rates
--   low, high: 95 % interval of the difference, paired (normal approximation, Agresti & Min 2005: a half added to each cell)
create view flip_changes as
with counted as (
    select
        a.run_id, b.run_id as base_id, count(*) as pairs,
        count_if(a.flipped and b.flipped) as both_flip,
        count_if(a.flipped and not b.flipped) as only_run,
        count_if(b.flipped and not a.flipped) as only_base,
        count_if(not a.flipped and not b.flipped) as neither
    from explanations a
    join explanations b using (image_id, seed, target, arm)
    where a.run_id <> b.run_id and arm = 'guided'
    group by a.run_id, b.run_id
),
widths as (
    select
        *, (only_run - only_base) / (pairs + 2) as middle,
        1.959964 * sqrt(only_run + only_base + 1 - power(only_run - only_base, 2) / (pairs + 2)) / (pairs + 2) as half
    from counted
)
select
    run_id, base_id, pairs, both_flip, only_run, only_base, neither,
    (only_run - only_base) / pairs as change, within(middle - half, 1) as low, within(middle + half, 1) as high
from widths;
