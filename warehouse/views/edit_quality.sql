-- How good the edits of each attribute are, by what the literature measures of counterfactual images (Monteiro et al. 2023,
-- Melistas et al. 2024): do they do what was asked, and what do they do besides?
-- Over: every edit that a run's classifier was asked about, counted or not.
-- Columns:
--   effectiveness: share after which the oracle sees the attribute as it was asked for, redrawn and pasted, and not in the sham; higher is better
--   composition: mean |sham - image|, of values in [0, 1]: what is redrawn though nothing was asked for; lower is better
--   proximity: mean |edit - image|, likewise
--   alone: share of those that changed no other attribute by more than the audit allows; null where none did what was asked
--   n: edits
create view edit_quality as
select
    run_id, attribute, avg(confirmed::int) as effectiveness, avg(sham_l1) as composition, avg(l1) as proximity,
    count_if(counted) / nullif(count_if(confirmed), 0) as alone, count(*) as n
from (select run_id, image_id, attribute, edits, counted from effects) e
join (select run_id as edits, image_id, attribute, confirmed, l1, sham_l1 from edits) using (edits, image_id, attribute)
group by run_id, attribute;
