-- The verdict on each attribute: `claims`, unless the audit's canary failed. A canary is a planted and a clean twin of the
-- classifier, audited with the same configuration (`canaries`); an audit whose canary failed refuses every verdict.
-- Over: as in `claims`.
-- Columns:
--   rank: as in `claims`, a refused verdict keeping its place
--   source, target: the direction; null as source: several together
--   effect: mean change of the attribute's oracle probability from source to target, guided minus null
--   low, high: 95 % interval of the former, simultaneous over the run's attributes
--   p: of no shift, two-sided sign-flip permutation test
--   q: the p-value after Benjamini-Hochberg
--   intervention: mean change of P(target) when the attribute alone is switched on; null where it was not edited
--   intervention_low, intervention_high: 95 % interval of the former
--   n: images with an explanation and its null
--   n_interventions: counted edits of this attribute
--   verdict: confirmed, suspected, clear, not tested or inconclusive
--   images_needed: what would settle an open question in 8 of 10 audits, if effects and spreads stay as they are; else null
--   rests_on: what the verdict rests on, in words
--   redrawing: how far being redrawn moves P(target), without any edit: see `interventions`
--   power: chance that an audit of as many images would confirm the attribute, if effects and spreads are as found; null unedited
create view verdicts as
with refused as (
    select run_id, why from canaries where not passed
)
select
    claims.* replace (
        if(why is null, verdict, 'inconclusive') as verdict,
        if(why is null, images_needed, null) as images_needed,
        if(why is null, rests_on, 'refused: the canary failed, ' || why) as rests_on
    )
from claims left join refused using (run_id);
