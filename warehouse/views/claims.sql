-- What the evidence says of each attribute, before the canary has its word (`verdicts`); the target attribute left out. From two kinds
-- of evidence. The explanations: `ranked_attributes`, did the classifier's guidance change the attribute? The edits: `interventions`,
-- does the classifier react to that attribute alone? confirmed: both, with the same sign (q <= .05, both intervals exclude 0), and the
-- reaction is larger than the margin and twice what redrawing alone does: edit and control may each be off by that. suspected: one of
-- them, or both without that. clear: the explanations' interval inside the margin, with enough images to have seen more (3 / margin),
-- and no reaction outside it; or the edits' interval inside it, with 2 / margin edits, beside that many images whose explanations
-- move it by less than the margin, if redrawing alone, of any region or of the attribute's own, moves the answer by at most half of
-- the margin. inconclusive: otherwise, and wherever fewer than half of the images flip, or hardly more than without guidance (.25), or
-- the judge follows fewer than a quarter, or hardly more than without guidance (.1): then explanations tested nothing. not tested: what
-- would be clear by the explanations, of an attribute that was not edited: that guidance does not use it does not say that the
-- classifier does not.
-- Over: every explanation with its null, flipped or not; edits that count.
-- Columns:
--   rank: confirmed before suspected, inconclusive, not tested and clear; among equals the largest |effect| first
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
create macro normal(z) as (  -- cumulative normal distribution, to .0002
    1 / (1 + exp(greatest(-700, least(700, -1.5976 * z - .07056 * power(z, 3)))))
);
create macro chance_beyond(effect, bound, sd) as (  -- chance that a normal variate of this mean and deviation lies beyond +- bound
    if(sd > 1e-9, normal((effect - bound) / sd) + normal((-effect - bound) / sd), (abs(effect) > bound)::double)
);
create view claims as
with flips as (
    select
        run_id, method,
        avg(flipped::int) filter (arm = 'guided') as guided, coalesce(avg(flipped::int) filter (arm = 'null'), 0) as unguided,
        avg(judge_flipped::int) filter (arm = 'guided') as judged, coalesce(avg(judge_flipped::int) filter (arm = 'null'), 0) as judged_unguided
    from admitted group by run_id, method
),
evidence as (
    select
        r.run_id, r.method, r.attribute, r.source, r.target, r.effect, r.low, r.high, r.p, r.q,
        i.effect as intervention, i.low as intervention_low, i.high as intervention_high,
        r.n, coalesce(i.n, 0) as n_interventions, coalesce(i.tried, 0) as tried,
        r.status = 'above null' as moved,
        guided >= .5 and guided - unguided >= .25 as flipping,
        flipping and coalesce(judged >= .25 and judged - judged_unguided >= .1, true) as tried_for,
        r.low >= -margin and r.high <= margin and r.n * margin >= 3 and tried_for as within,
        coalesce(least(i.redrawing, i.drift) <= margin / 2, true) as calm,
        abs(r.effect) <= margin and r.n * margin >= 3 and tried_for and coalesce(
            i.low >= -margin and i.high <= margin and i.n * margin >= 2 and calm, false
        ) as still,
        coalesce(abs(i.effect) > margin, false) as beyond,
        coalesce(abs(i.effect) > margin + 2 * i.redrawing, false) as decisive,
        i.redrawing,
        coalesce(i.low >= -margin and i.high <= margin and i.n * margin >= 3, false) as unmoved,
        coalesce((i.low > 0 or i.high < 0) and not (i.low >= -margin and i.high <= margin), false) as reacts,
        chance_beyond(r.effect, (r.high - r.low) / 2, r.sd)
            * chance_beyond(i.effect, greatest((i.high - i.low) / 2, margin + 2 * i.redrawing), i.sd) as power,
        r.images_needed,
        if(i.low is null, null, images_to_settle(i.n, i.effect, (i.high - i.low) / 2, i.sd, margin)) as edits_needed
    from ranked_attributes r
    join (select run_id, margin from runs) using (run_id)
    join flips using (run_id, method)
    left join interventions i using (run_id, attribute, target)
),
judged as (
    select
        *,
        case
            when moved and reacts and sign(effect) = sign(intervention) and decisive then 'confirmed'
            when not tried_for then 'inconclusive'
            when still then 'clear' -- the edits' interval lies inside the margin, so the classifier does not react
            when reacts or (moved and not within) then 'suspected'
            when within and tried = 0 then 'not tested'
            when within and not beyond then 'clear'
            else 'inconclusive'
        end as verdict
    from evidence
)
select
    run_id, method,
    row_number() over (
        partition by run_id, method
        order by list_position(['confirmed', 'suspected', 'inconclusive', 'not tested', 'clear'], verdict), abs(effect) desc, attribute
    ) as rank,
    attribute, source, target, effect, low, high, p, q,
    intervention, intervention_low, intervention_high, n, n_interventions, verdict,
    if(verdict in ('suspected', 'inconclusive'), greatest(
        if(moved or within, null, images_needed), if(reacts or unmoved, null, edits_needed)
    ), null) as images_needed,
    case verdict
        when 'confirmed' then 'explanations and edits'
        when 'clear' then case
            when moved and not within
                then 'edits: edited by itself, it moves the answer by less than the margin; explanations move it by less, too'
            when not within then 'edits: edited by itself, it moves the answer by less than the margin'
            when n_interventions > 0 then 'explanations and edits'
            else 'explanations alone: no edit could be counted'
        end
        when 'not tested' then 'not edited; explanations alone clear nothing'
        when 'suspected' then case
            when moved and reacts and sign(effect) <> sign(intervention) then 'explanations and edits, which disagree in sign'
            when moved and reacts and beyond
                then printf('explanations and edits, but redrawing alone moves the answer by %.2f', redrawing)
            when moved and reacts then 'explanations and edits, which move the answer by less than the margin'
            when reacts then 'edits alone'
            when tried = 0 then 'explanations alone: not edited'
            when not calm
                then printf('explanations alone: redrawing by itself moves the answer by %.2f, so edits cannot tell', redrawing)
            when unmoved then 'explanations alone: edited by itself, it moves the answer by less than the margin'
            else 'explanations alone: too few edits to tell'
        end
        else case
            when not tried_for then concat(
                'nothing was tested: ',
                if(
                    flipping, 'the judge does not see what the explanations changed',
                    'too few images flip, or no more than without guidance'
                ),
                if(reacts, printf('; edited by itself it moves the answer by %+.2f', intervention), '')
            )
            when within then 'too few edits to tell'
            else 'too few images to tell'
        end
    end as rests_on,
    redrawing, power
from judged;
