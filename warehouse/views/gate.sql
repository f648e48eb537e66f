-- Every rule that a run is held to, one row each, with what was found and what follows: `pass`, `fail` or `inconclusive`. Report,
-- `cfx gate` and SQL all read this view. A rule about an interval passes when the whole interval is within its bound, and fails
-- when the claim itself is shown and beyond it; in between, `images_needed` images would decide if things stay as they are. A confirmed
-- attribute fails, whatever its size. A low flip rate is a weak audit, which decides nothing. With fewer images than the policy asks
-- for, no attribute is accused or cleared. Over: runs with a policy.
-- Columns:
--   place: order of the rules
--   rule: audit, images, flip rate, judge flip rate, effect, error gap, edited effect, explained, property, place, rise, edited rise or cd rise
--   subject: the attribute, property, place or class that the rule is about; null for the whole run
--   value: what was found
--   low, high: 95 % interval of the value (flip rates: Wilson 1927), null where it has none
--   threshold: the policy's bound
--   n: images
--   result: pass, fail or inconclusive
--   verdict: what all rules of the run come to: fail if any fails, otherwise inconclusive if any is undecided, otherwise pass
--   images_needed: how many would decide; null where it is decided or no number would do
--   reason: all of this in words
create macro points(low, high, threshold) as (  -- an interval and its bound in words, in points: hundredths of a probability
    format(' (95% interval {:+.1f} to {:+.1f}), limit {:g}', round(100 * low, 1) + 0, round(100 * high, 1) + 0, round(100 * threshold, 3))
);
create macro signs(words) as (  -- numbers in words: a true minus, and no sign before zero
    regexp_replace(regexp_replace(words, '(^|[ (])-([0-9])', '\1−\2', 'g'), '(^|[ (])[+−]0[.]0([^0-9]|$)', '\10.0\2', 'g')
);
create view gate as
with held as (
    select policies.*, status, target_attribute, measured from policies join (
        -- Of a run that keeps no settings it is not known whether a share should be there.
        select run_id, status, target_attribute, json_type(config, '$.oracle') is not null as measured from runs
    ) using (run_id)
),
seen as (
    -- Where nothing was drawn, every image that was predicted.
    select run_id, coalesce(explained_images, predicted_images) as images, coalesce(explained_images < all_images, false) as apart
    from (select run_id, count(*) as predicted_images from predictions group by run_id)
    full join (
        select run_id, count(distinct a.image_id) as explained_images, count(distinct e.image_id) as all_images
        from explanations e left join admitted a using (run_id, image_id, method, arm, seed)
        where arm = 'guided'
        group by run_id
    ) using (run_id)
),
whole as (
    select
        run_id, 0 as place, 'audit' as rule, null as subject, null::double as value, null::double as low, null::double as high,
        null::double as threshold, coalesce(images, 0) as n,
        if(status = 'finished', 'pass', 'inconclusive') as result, null::bigint as images_needed,
        'the audit ' || case status when 'finished' then 'finished' when 'failed' then 'failed' else 'has not finished' end as reason
    from held left join seen using (run_id)
    union all
    select
        run_id, 1, 'images', null, coalesce(images, 0), null, null, minimum_images, coalesce(images, 0),
        if(coalesce(images, 0) >= minimum_images, 'pass', 'inconclusive'),
        if(coalesce(images, 0) >= minimum_images, null, minimum_images),
        format(
            '{} images {}, at least {} required', coalesce(images, 0), if(apart, 'explained by the ladder at once', 'audited'), minimum_images
        )
    from held left join seen using (run_id)
),
rates as (
    select run_id, 2 as place, 'flip rate' as rule, value, n, minimum_flip_rate as threshold from held join fr using (run_id)
    union all
    select run_id, 3, 'judge flip rate', value, n, minimum_judge_flip_rate from held join judge_fr using (run_id)
),
bounded_rates as (
    select *, wilson(value, n, -1) as low, wilson(value, n, 1) as high from rates where threshold is not null
),
judged_rates as (
    -- Short of its floor for certain, a rate says that the audit was weak, which is no fault of the classifier.
    select *, if(low >= threshold, 'pass', 'inconclusive') as result, high < threshold as weak from bounded_rates
),
ranked as (
    select verdicts.* from held join verdicts using (run_id)
),
maybe_labels as (
    -- Attributes that say the same as the label in nearly every image of a run in which none is set apart as the label.
    select distinct run_id, attribute
    from held join label_associations using (run_id)
    where target_attribute is null and forbidden is null and abs(phi) >= 0.95 and n >= 20
),
effects as (
    -- An effect is shown when explanations and edits confirm it, or when explanations found it and nobody made the edits. It is within
    -- the limit when neither explanations nor edits can have moved it further, and something was tested; of what edits cleared, theirs
    -- is the interval that counts.
    select
        run_id, 10 + rank as place, 'effect' as rule, attribute as subject, effect as value, low, high, maximum_effect as threshold,
        n, minimum_images as minimum, 'images' as unit,
        (verdict = 'confirmed' or (verdict = 'suspected' and n_interventions = 0)) and (run_id, attribute) not in (from maybe_labels) as shown,
        verdict not in ('confirmed', 'not tested') and rests_on not like 'nothing was tested%'
            and (low >= -maximum_effect and high <= maximum_effect or rests_on like 'edits: %' and abs(effect) <= maximum_effect)
            and coalesce(greatest(abs(intervention_low), abs(intervention_high)), abs(intervention), 0) <= maximum_effect as within,
        abs(effect) > maximum_effect or verdict = 'confirmed' as beyond,
        coalesce(ranked.images_needed, 0) as needed,
        format('{} effect {:+.1f} points', attribute, round(100 * effect, 1) + 0) as found,
        if(intervention is null, '', format('; edited alone it shifts the score by {:+.1f} points', round(100 * intervention, 1) + 0))
            || case when verdict in ('confirmed', 'suspected') then format('; {} by {}', verdict, rests_on)
                when rests_on like 'nothing was tested%' then '; ' || rests_on
                when verdict = 'not tested' then '; not edited, so how far it moves the score is not known' else '' end
            || if((run_id, attribute) in (from maybe_labels), format('; it says the same as the label: if it is the label itself, set `target_attribute: {}`, or else name it in `gate.forbidden`', attribute), '')
            as because
    from held join ranked using (run_id)
    where forbidden is null or list_contains(forbidden, attribute)
),
compared as (
    select
        run_id, protected as subject, maximum_gap, minimum_images, coalesce(n, 0) as n, class, rate_with, rate_without, value, low, high,
        coalesce(withheld, 0) as withheld, fewest
    from (select run_id, minimum_images, coalesce(maximum_error_gap, .1) as maximum_gap, unnest(protected) as protected from held)
    left join (select * exclude (attribute), attribute as protected from fairness where measure = 'equalized odds') using (run_id, protected)
    left join (
        select run_id, attribute as protected, min(n) as fewest from worst_groups where not reported group by all
    ) using (run_id, protected)
),
decided as (
    select
        *,
        case
            when n < minimum_images then 'inconclusive'
            when low > maximum_gap then 'fail'
            when high <= maximum_gap and withheld = 0 then 'pass'
            else 'inconclusive'
        end as result,
        if(result <> 'inconclusive' or n = 0, null, greatest(
            minimum_images, ceil(n * smallest_group() / fewest),
            ceil(n * power(if(value < maximum_gap, high - value, value - low) / nullif(abs(value - maximum_gap), 0), 2))
        )) as wanted
    from compared
),
error_gaps as (
    -- Whether errors fall on one group: the largest difference of any label's recall between images with a protected attribute and without.
    select
        run_id, 700 as place, 'error gap' as rule, subject, value, low, high, maximum_gap as threshold, n, result,
        if(wanted > n, try_cast(wanted as bigint), null) as images_needed,
        case
            when n = 0 then format('{}: no image is known both by its label and by this attribute, so errors cannot be compared', subject)
            when value is null then format('{}: too few images to compare the groups', subject)
            else format(
                'images labelled “{}” are predicted right in {:.1f}% of {} and {:.1f}% of no {}: a gap of {:.1f} points',
                class, 100 * rate_with, subject, 100 * rate_without, subject, round(100 * value, 1)
            ) || points(low, high, maximum_gap)
        end
            || if(withheld > 0, format('; fewer than {} images with it or without it in {} of the labels', smallest_group(), withheld), '')
            || if(result = 'inconclusive' and images_needed is not null, format('; about {} images needed', images_needed), '') as reason
    from decided
),
edited as (
    -- Counterfactual fairness (Kusner et al. 2017, arXiv:1703.06856), as far as an edit of the image reaches: the answer to an image
    -- and to the same one with the protected attribute alone switched. Of more than two classes, the score that it moves most.
    select
        run_id, protected as attribute, arg_max(target, (abs(effect), target)) as target,
        arg_max(struct_pack(effect, low, high, n), (abs(effect), target)) as most,
        bool_and(low >= -maximum_effect and high <= maximum_effect) as within,
        bool_or((low > 0 or high < 0) and abs(effect) > greatest(maximum_effect, 2 * redrawing)) as beyond
    from (select run_id, unnest(protected) as protected, maximum_effect from held)
    join (select run_id, attribute as protected, target, effect, low, high, n, redrawing from interventions where effect is not null)
        using (run_id, protected)
    group by run_id, protected
),
edited_effects as (
    -- Edits of which less than five count have no interval.
    select
        run_id, 800 as place, 'edited effect' as rule, protected as subject, most.effect as value, most.low as low, most.high as high,
        maximum_effect as threshold, coalesce(most.n, 0) as n, 5 as minimum, 'edits' as unit,
        coalesce(edited.beyond, false) and run_id not in (select run_id from canaries where not passed) as shown,
        coalesce(edited.within, false) as within, coalesce(edited.beyond, false) as beyond, 0 as needed,
        if(most is null, format('{}: no edit of it counts, so what it alone does to the answer is not known', protected),
            format('switching {} alone shifts the “{}” score by {:+.1f} points', protected, edited.target, round(100 * most.effect, 1) + 0)) as found,
        '' as because
    from (select run_id, unnest(protected) as protected, maximum_effect from held)
    left join (select * exclude (attribute), attribute as protected from edited) edited using (run_id, protected)
),
beyond_attributes as (
    -- What needs no name. Held against the run where every attribute is; a share of the answers that is not explained leaves it open.
    select
        run_id, 900 as place, 'explained' as rule, class as subject, share as value, low, high, null::double as threshold, n,
        if(cleared and tested, 'pass', 'inconclusive') as result,
        why || if(tested or not cleared, '', ', but none of the attributes among it was tested, and the label alone explains less') as reason
    from held join (
        select *, not needs_attributes or run_id in (select run_id from ranked) as tested from explained_share
    ) using (run_id)
    where coalesce(explained, true)
    union all
    select
        run_id, 900, 'explained', null, null, null, null, null, coalesce(images, 0), 'inconclusive',
        'how much of the answers is accounted for was not measured: that takes a label or a named attribute, and enough images'
    from held left join seen using (run_id)
    where coalesce(explained, true) and measured and run_id not in (select run_id from explained_share)
    union all
    select
        run_id, 900 + row_number() over (partition by run_id order by abs(intervention) desc, kind, name, class), kind, name, intervention, low, high, maximum_effect, n,
        case
            when greatest(abs(low), abs(high)) <= maximum_effect then 'pass'
            when images < minimum_images or abs(intervention) <= maximum_effect then 'inconclusive'
            else 'fail'
        end,
        format('{} shifts the “{}” score by {:+.1f} points', name, class, round(100 * intervention, 1) + 0)
            || points(low, high, maximum_effect) || '; ' || why
    from held join unnamed_findings using (run_id) join seen using (run_id)
    where forbidden is null and verdict = 'confirmed'
),
grown as (
    select
        c.run_id, 1000 as place, 'rise' as rule, c.* exclude (run_id), minimum_images as minimum, 'images' as unit,
        '{} effect {:+.1f} points larger than in the base' as found
    from held join (select run_id, base_id, attribute, effect, base_effect, change, low, high, n from changes) c
        on c.run_id = held.run_id and c.base_id = held.base
    union all
    select
        c.run_id, 1500, 'edited rise', c.* exclude (run_id), 5, 'edits',
        '{} edited alone shifts the score {:+.1f} points further than in the base'
    from held join (select run_id, base_id, attribute, effect, base_effect, change, low, high, n from edit_changes) c
        on c.run_id = held.run_id and c.base_id = held.base
    join seen on seen.run_id = held.run_id
    where images >= minimum_images and n >= 5
),
rises as (
    -- Away from 0, on the side of the larger of the two effects.
    select
        run_id, place, rule, attribute as subject,
        if(abs(effect) > abs(base_effect), effect, base_effect) < 0 as downwards, if(downwards, -change, change) as value,
        if(downwards, -high, low) as low, if(downwards, -low, high) as high, maximum_rise as threshold,
        n, minimum, unit, if(downwards, high < 0, low > 0) as shown,
        if(downwards, -low, high) <= maximum_rise as within, abs(change) > maximum_rise as beyond, 0 as needed,
        format(found, attribute, round(100 * if(downwards, -change, change), 1) + 0) as found, '' as because
    from grown join (select run_id, forbidden, maximum_rise from held) using (run_id)
    where forbidden is null or list_contains(forbidden, attribute)
),
bounded as (
    select * from effects union all select * from edited_effects union all select * exclude (downwards) from rises
),
judged as (
    select
        *,
        case
            when n < minimum then 'inconclusive'
            when within then 'pass'
            when shown and beyond then 'fail'
            else 'inconclusive'
        end as result,
        -- How many times narrower: to pass, the interval must shrink into the bound; to fail, off 0.
        if(
            abs(value) > threshold,
            if(value > 0, value - low, high - value) / abs(value),
            greatest((value - low) / (threshold + value), (high - value) / (threshold - value))
        ) as narrower
    from bounded
),
settled as (
    -- As many as there are would do: then it is not their number, as where edits contradict explanations.
    select * exclude (wanted), if(wanted > n, wanted, null) as images_needed
    from (
        select
            *,
            case result when 'inconclusive' then greatest(
                minimum, needed, if(within or (shown and beyond), 0, try_cast(ceil(n * power(narrower, 2)) as bigint))
            ) end as wanted
        from judged
    )
),
unknown_rises as (
    -- What moves the answer in the base and was not edited here: whether the reliance on it grew is not known, which is no pass.
    select
        held.run_id, 1500 as place, 'edited rise' as rule, attribute as subject, maximum_rise as threshold,
        format('{} edited alone shifts the score by {:+.1f} points in the base and was {}, so whether that grew is not known: audit again with base: {}', attribute, round(100 * base_effect, 1) + 0, if(tried > 0, 'edited in vain here', 'not edited here'), base) as reason
    from held join unedited on unedited.run_id = held.run_id and unedited.base_id = held.base
    where forbidden is null or list_contains(forbidden, attribute)
),
cds as (
    select
        held.run_id, 2000 as place, 'cd rise' as rule, a.value - b.value as value, maximum_cd_rise as threshold,
        a.value as cd, b.value as base_cd, least(a.n, b.n) as n
    from held
    left join cd a using (run_id)
    left join cd b on b.run_id = held.base and b.method = a.method
    where held.base is not null and maximum_cd_rise is not null
),
rules as (
    select run_id, place, rule, subject, value, low, high, threshold, n, result, images_needed, reason from whole
    union all
    select
        run_id, place, rule, null, value, low, high, threshold, n, result,
        -- The side of the interval that holds the bound, which is the longer one near 0 and 1.
        if(result = 'inconclusive' and not weak, try_cast(ceil(n * power(if(value < threshold, high - value, value - low) / abs(value - threshold), 2)) as bigint), null),
        format('{} {:.1f}% (95% interval {:.1f}% to {:.1f}%), at least {:g}% required', rule, 100 * value, 100 * low, 100 * high, round(100 * threshold, 3))
            || if(weak, ': the audit is too weak to clear anything', '')
    from judged_rates
    union all
    select
        run_id, place, rule, subject, value, low, high, threshold, n, result, if(unit = 'images', images_needed, null),
        found || coalesce(points(low, high, threshold), '') || because
        || case
            when result <> 'inconclusive' then ''
            when images_needed is null then '; more images would not decide'
            else format('; too few {}: {}; about {} needed', unit, n, images_needed)
        end
    from settled
    union all
    select run_id, place, rule, subject, value, low, high, threshold, n, result, images_needed, reason
    from error_gaps
    union all
    select run_id, place, rule, subject, value, low, high, threshold, n, result, null, reason
    from beyond_attributes
    union all
    select run_id, place, rule, subject, null, null, null, threshold, 0, 'inconclusive', null, reason
    from unknown_rises
    union all
    select
        run_id, place, rule, null, value, null, null, threshold, coalesce(n, 0),
        case when value is null then 'inconclusive' when value <= threshold then 'pass' else 'fail' end, null,
        if(value is null, 'CD is missing here or in the base', format('CD {:.3f}, {:.3f} in the base, may rise by {:.3f}', cd, base_cd, threshold))
    from cds
)
select
    * replace (signs(reason) as reason),
    case
        when bool_or(result = 'fail') over run then 'fail'
        when bool_or(result = 'inconclusive') over run then 'inconclusive'
        else 'pass'
    end as verdict
from rules
window run as (partition by run_id);
