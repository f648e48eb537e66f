-- Accuracy in each cell of label and attribute, the worst first: a shortcut hurts where label and attribute do not go together, which
-- neither accuracy by label nor accuracy by attribute need show (worst-group accuracy, Sagawa et al. 2020, arXiv:1911.08731).
-- The lowest of many cells is low by chance, too: read it with its interval. Cells of fewer than 20 images have their rates withheld.
-- Over: images as in `group_counts` that have a label; not the target attribute, which is the label itself.
-- Columns:
--   rank: 1 for the lowest accuracy; null where it is withheld
--   label: the class that the data set gives
--   present: the cell has the attribute; false: it lacks it
--   known_by: annotation or oracle: how it is known who has the attribute
--   n: images of the cell
--   reported: the cell is large enough
--   value: share of them that is predicted as its label
--   low, high: 95 % interval of value (Wilson 1927)
create view worst_groups as
with counted as (
    select run_id, label, attribute, present, known_by, sum(n)::bigint as n, coalesce(sum(n) filter (class = label), 0) / sum(n) as share
    from group_counts join (select run_id, target_attribute from runs) using (run_id)
    where label is not null and attribute is distinct from target_attribute
    group by run_id, label, attribute, present, known_by
),
shown as (
    select * exclude (share), n >= smallest_group() as reported, if(reported, share, null) as value from counted
)
select
    run_id,
    if(reported, row_number() over (partition by run_id order by value nulls last, n desc, attribute, label, present), null)::int as rank,
    label, attribute, present, known_by, n, reported, value, wilson(value, n, -1) as low, wilson(value, n, 1) as high
from shown;
