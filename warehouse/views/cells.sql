-- One row a cell of the benchmark, an audit whose truth is known: did it rank and confirm what was planted, and nothing else?
-- Over: audits with `truths`.
-- Columns:
--   shortcuts: planted attributes; 0 in a clean twin
--   first: the attribute ranked first
--   top1: the first attributes are the planted ones; null in a clean twin
--   confirmed: share of the planted attributes that are confirmed; null in a clean twin
--   silent: nothing is confirmed but what was planted
--   claims: confirmed attributes
--   false_claims: those that the classifier does not truly rely on
--   sign_agreement: of effects that are truly beyond the margin, the share estimated with the right sign
--   coverage: share of the edited attributes whose interval holds the exact effect
--   unnamed: properties and places that were confirmed
create view cells as
select
    run_id, kind, method, rho, seed, images, shortcuts,
    arg_min(attribute, rank) as first,
    if(shortcuts = 0, null, bool_and(planted) filter (rank <= shortcuts)) as top1,
    avg((verdict = 'confirmed')::int) filter (planted) as confirmed,
    count_if(verdict = 'confirmed' and not planted) = 0 as silent,
    count_if(verdict = 'confirmed') as claims,
    count_if(false_claim) as false_claims,
    avg((sign(estimate) = sign(exact))::int) filter (abs(exact) > margin and estimate is not null) as sign_agreement,
    avg((exact between estimate_low and estimate_high)::int) filter (estimate_low is not null) as coverage,
    coalesce(any_value(confirmed_unnamed), 0) as unnamed
from graded left join (
    select run_id, count(*) as confirmed_unnamed from unnamed_findings where verdict = 'confirmed' group by run_id
) using (run_id)
group by run_id, kind, method, rho, seed, images, shortcuts;
