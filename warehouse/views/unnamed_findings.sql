-- What was found that no attribute names: properties of the image and places, with association and intervention where there are both.
-- Over: properties that were probed, zones of `places`, parts of `segments`.
-- Columns:
--   kind: property or place
--   name: the property, the zone, or the part of the images that a mask shows
--   association: properties: rank correlation with the answers; places: none
--   intervention: mean change of P(class) when it alone is probed or exchanged; of a place, what decides there (its `exchange`, or else its `effect`)
--   low, high: 95 % interval of the intervention
--   n: images that it rests on
--   verdict: confirmed, suspected, fragile (the answer moves, but these images do not vary in it or the direction is mixed), clear, inconclusive, or named (a place that named attributes account for)
--   why: what the verdict rests on, in words
--   tied: properties that these images cannot tell it from; places: none
create view unnamed_findings as
select
    run_id, 'property' as kind, property as name, class, if(property = 'mirror', null, association) as association,
    effect as intervention, low, high, n,
    case
        when kind = 'relies on' and through is null then 'confirmed'
        when kind = 'relies on' then 'suspected'
        when kind = 'fragile' then 'fragile'
        when low >= -margin and high <= margin and size <= margin then 'clear'
        else 'inconclusive'
    end as verdict,
    case
        when kind = 'relies on' and len(tied) > 0
            then 'probes and association agree; these images do not tell it from ' || array_to_string(tied, ' or ')
        when kind = 'relies on' and through is null then 'probes and association agree'
        when kind = 'relies on' then 'acts through ' || through
        when not in_data and property <> 'mirror' then 'not in your data: moved by a small fixed dose'
        when kind = 'fragile' and property = 'mirror' then 'the answer moves when the image is mirrored'
        when kind = 'fragile' then 'the answer moves, but not as the property goes with it in your data' || if(labelled, ', beyond the label', '')
        else 'probes'
    end as why,
    coalesce(tied, []) as tied
from property_claims
join (select run_id, margin, json_type(config, '$.data.label_column') is distinct from 'NULL' as labelled from runs) using (run_id)
union all
select
    run_id, 'place', place, class, null, coalesce(exchange, effect), if(exchange is null, low, exchange_low),
    if(exchange is null, high, exchange_high), if(exchange is null, n, exchange_n), verdict,
    case verdict
        when 'confirmed' then 'transplants; nothing that was named accounts for it'
        when 'suspected' then 'transplants; ' || if(not beyond_label, 'the label may account for what is there', 'no oracle names what is there')
            || ', so whether it should decide is open'
        when 'named' then 'transplants; '
            || if(len(attributes) > 0, array_to_string(attributes, ', ') || ' there', 'the attributes that were named account for it')
        else 'transplants'
    end,
    []
from (
    select run_id, zone as place, class, effect, low, high, n, exchange, exchange_low, exchange_high, exchange_n, attributes,
        beyond_label, verdict
    from places
    union all
    select run_id, segment, class, effect, low, high, n, exchange, exchange_low, exchange_high, exchange_n, attributes,
        beyond_label, verdict
    from segments
);
