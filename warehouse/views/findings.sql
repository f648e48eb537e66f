-- Everything that the answer was asked to rest on, in one ranked list: attributes, properties of the image, places. Association and
-- intervention are two kinds of evidence for the same claim.
-- Over: attributes of `verdicts`, properties and places of `unnamed_findings`.
-- Columns:
--   rank: confirmed first, then suspected, fragile, inconclusive, not tested, clear; the strongest intervention first
--   kind: attribute, property or place
--   name: its name
--   class: the class whose score is meant
--   association: attributes: how far explanations move the attribute; properties: rank correlation with the answers; places: none
--   intervention: mean change of P(class) when it alone is edited, probed or exchanged; null where that was not done
--   low, high: 95 % interval of the intervention
--   n: images that it rests on
--   verdict: confirmed, suspected, fragile (the answer moves, but these images do not vary in it or the direction is mixed), clear, inconclusive, not tested (an attribute that was not edited), or named (a place that named attributes account for)
--   why: what the verdict rests on, in words
--   tied: properties that the images cannot tell it from
--   given_name: what a person called it in the explorer; null where nobody did, or it is not a thing
create view findings as
with claimed as (
    select
        run_id, 'attribute' as kind, attribute as name, target as class, effect as association, intervention,
        intervention_low as low, intervention_high as high, coalesce(n_interventions, n) as n, verdict, rests_on as why,
        []::varchar[] as tied
    from verdicts
    union all
    select run_id, kind, name, class, association, intervention, low, high, n, verdict, why, tied
    from unnamed_findings
)
select
    run_id,
    row_number() over (
        partition by run_id
        order by
            list_position(['confirmed', 'suspected', 'fragile', 'inconclusive', 'not tested', 'named', 'clear'], verdict),
            abs(coalesce(intervention, 0)) desc, kind, name, class
    )::int as rank,
    kind, name, class, association, intervention, low, high, n, verdict, why, tied, given_name
from claimed
left join (select run_id, kind, claim as name, name as given_name from given_names) using (run_id, kind, name);
