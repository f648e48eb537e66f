-- Everything that the answer was asked to rest on, in one ranked list: attributes, properties of the image, places. Association and
-- intervention are two kinds of evidence for the same claim.
-- Over: attributes of `verdicts`, properties that were probed, zones of `places`.
-- Columns:
--   rank: confirmed first, then suspected, fragile, inconclusive, clear; the strongest intervention first
--   kind: attribute, property or place
--   name: its name
--   class: the class whose score is meant
--   association: attributes: how far explanations move the attribute; properties: rank correlation with the answers; places: none
--   intervention: mean change of P(class) when it alone is edited, probed or exchanged; null where that was not done
--   low, high: 95 % interval of the intervention
--   n: images that it rests on
--   verdict: confirmed, suspected, fragile (the answer moves, but these images do not vary in it or the direction is mixed), clear, inconclusive, or named (a place that named attributes account for)
--   why: what the verdict rests on, in words
create view findings as
with claimed as (
    select
        run_id, 'attribute' as kind, attribute as name, target as class, effect as association, intervention,
        intervention_low as low, intervention_high as high, coalesce(n_interventions, n) as n, verdict, rests_on as why
    from verdicts
    union all
    select
        run_id, 'property', property, class, if(property = 'mirror', null, association), effect, low, high, n,
        case
            when kind = 'relies on' and through is null then 'confirmed'
            when kind = 'relies on' then 'suspected'
            when kind = 'fragile' then 'fragile'
            when low >= -margin and high <= margin and size <= margin then 'clear'
            else 'inconclusive'
        end,
        case
            when kind = 'relies on' and through is null then 'probes and association agree'
            when kind = 'relies on' then 'acts through ' || through
            when not in_data and property <> 'mirror' then 'not in your data: moved by a small fixed dose'
            when kind = 'fragile' then 'the answer moves, but not as the property goes with it in your data'
            else 'probes'
        end
    from property_claims join (select run_id, margin from runs) using (run_id)
    union all
    select
        run_id, 'place', zone, class, null, effect, low, high, n, verdict,
        case verdict
            when 'confirmed' then 'transplants; nothing that was named accounts for it'
            when 'suspected' then 'transplants; nothing was named, so whether it should decide is open'
            when 'named' then 'transplants; ' || array_to_string(attributes, ', ') || ' there'
            else 'transplants'
        end
    from places
)
select
    run_id,
    row_number() over (
        partition by run_id
        order by
            list_position(['confirmed', 'suspected', 'fragile', 'inconclusive', 'named', 'clear'], verdict),
            abs(coalesce(intervention, 0)) desc, kind, name, class
    )::int as rank,
    kind, name, class, association, intervention, low, high, n, verdict, why
from claimed;
