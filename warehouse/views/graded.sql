-- Each attribute's verdict beside the truth, for audits of Portraits: `cfx benchmark`.
-- Over: audits with `truths`; the target attribute is left out.
-- Columns:
--   shortcuts: planted attributes; 0 in a clean twin
--   planted: whether the attribute is a planted shortcut
--   exact: what the attribute alone truly does to P(target), by rendering each portrait again
--   estimate: what the audit found by editing it alone; null where it was not edited
--   estimate_low, estimate_high: 95 % interval of estimate
--   change: mean change of the attribute in explanations, guided minus null
--   rank: confirmed before suspected, inconclusive, not tested and clear; among equals the largest |change| first
--   verdict: confirmed, suspected, clear, not tested or inconclusive
--   false_claim: confirmed, but not planted and truly under a fifth of the margin, or of the other sign
create view graded as
select
    run_id, kind, method, t.rho, t.seed, t.images, len(t.planted) as shortcuts, attribute, list_contains(t.planted, attribute) as planted,
    t.effect as exact, v.intervention as estimate, v.intervention_low as estimate_low, v.intervention_high as estimate_high,
    v.effect as change, v.rank, v.verdict, margin,
    verdict = 'confirmed' and not list_contains(t.planted, attribute)
        and (abs(t.effect) < margin / 5 or sign(t.effect) <> sign(v.intervention)) as false_claim
from verdicts v join truths t using (run_id, attribute) join (select run_id, margin from runs) using (run_id);
