-- What an auditor asks of the data before trusting a verdict, one row a check: how many images it flags, how bad that is, the bound
-- and where the bound comes from. `quality_images` has the images. Label issues are found by the audited classifier's own answers:
-- where it is wrong, it accuses labels that are right, so the lowest `quality` in `label_issues` are to be looked at, not relabelled
-- unseen.
-- Over: every run.
-- Columns:
--   place: order of the checks
--   issue: the check
--   about: of rejected inputs the reason, of class balance the rarest class; else null
--   flagged: images, or inputs, that it flags; null where it was not measured
--   n: images, or inputs, that were looked at
--   share: flagged of n; of class balance the rarest class's share of an even share, 1 if all are alike
--   severity: none, minor, moderate, severe, or not measured
--   severe_from: the share from which on it is severe, moderate from a fifth of it on; of class balance up to which, moderate up to three times
--   threshold: the bound, in words
--   source: where the bound comes from
--   says: what was found, or the way to have it
create view quality as
with checks as (
    select unnest([
        {'place': 1, 'issue': 'leak between splits', 'severe_from': .01, 'threshold': 'the same file or bytes, or near duplicates, in two splits', 'source': 'as for duplicates'},
        {'place': 2, 'issue': 'duplicates disagree', 'severe_from': .01, 'threshold': 'duplicates or near duplicates with different labels', 'source': 'as for duplicates'},
        {'place': 3, 'issue': 'exact duplicate', 'severe_from': .05, 'threshold': 'the same bytes (SHA-256), or listed twice', 'source': 'identity'},
        {'place': 4, 'issue': 'near duplicate', 'severe_from': .05, 'threshold': 'measured properties differ by at most 0.1 robust standard deviations', 'source': 'chosen on Portraits of other seeds than the graded ones'},
        {'place': 5, 'issue': 'label issue', 'severe_from': .05, 'threshold': 'off the diagonal of the confident joint, as many as it estimates', 'source': 'Northcutt et al. 2021; cleanlab, its defaults'},
        {'place': 6, 'issue': 'low information', 'severe_from': .05, 'threshold': 'standard deviation of luma under 0.0076', 'source': 'CleanVision: 3 bits of entropy, of a normal distribution'},
        {'place': 7, 'issue': 'dark', 'severe_from': .05, 'threshold': '99th percentile of luma under 0.32; or z under −3.5 and mean luma under 0.25', 'source': 'CleanVision; Iglewicz & Hoaglin 1993'},
        {'place': 8, 'issue': 'bright', 'severe_from': .05, 'threshold': '5th percentile of luma over 0.95; or z over 3.5 and mean luma over 0.8', 'source': 'CleanVision; Iglewicz & Hoaglin 1993'},
        {'place': 9, 'issue': 'blurred', 'severe_from': .05, 'threshold': 'sharpness under 0.3; or z under −3.5 and sharpness under 0.5', 'source': 'Crete et al. 2007; Iglewicz & Hoaglin 1993; floors chosen on Portraits of other seeds'},
        {'place': 10, 'issue': 'odd size', 'severe_from': .05, 'threshold': 'beyond 3 interquartile ranges, and a side of twice or half the usual', 'source': 'Tukey 1977; CleanVision'},
        {'place': 11, 'issue': 'odd shape', 'severe_from': .05, 'threshold': 'shorter side under 0.35 of the longer; or z beyond 3.5 and 1.5 times the usual', 'source': 'CleanVision; Iglewicz & Hoaglin 1993'}
    ], recursive := true)
),
counted as (
    select run_id, issue, count(*) as flagged from quality_images group by run_id, issue
),
looked_at as (
    select
        run_id, coalesce(images, 0) as images, coalesce(refused, 0) as refused, coalesce(repeated, 0) as repeated,
        coalesce(labelled, 0) as labelled, coalesce(classed, 0) as classed, coalesce(splits, 0) as splits, coalesce(properties, 0) as properties, coalesce(compared, 0) as compared,
        coalesce(judged, 0) as judged, others
    from runs
    left join (
        select run_id, count(*) as images, count(label) as labelled, count(distinct label) as classed, count(distinct split) as splits
        from images group by run_id
    ) using (run_id)
    left join (
        select run_id, count(*) as refused, count_if(reason in ('duplicate', 'listed_twice')) as repeated from rejected where stage <> 'regions' group by run_id
    ) using (run_id)
    left join (
        select run_id, count(sharpness) as properties, if(count(distinct name) filter (name in ('m_brightness', 'm_contrast', 'm_warmth', 'm_saturation', 'm_light_x', 'm_light_y', 'm_subject_x', 'm_subject_y')) >= 6, count(distinct image_id), 0) as compared
        from (
            select *, if(name = 'm_sharpness', image_id, null) as sharpness
            from (unpivot (select run_id, image_id, columns('^m_') from properties) on columns('^m_') into name name value value)
        )
        group by run_id
    ) using (run_id)
    left join (select run_id, count(*) as judged from label_issues group by run_id) using (run_id)
    left join (select run_id, sum(files) as others from shared_files group by run_id) using (run_id)
),
over_what as (
    select
        run_id, checks.*,
        case issue
            when 'leak between splits' then if(splits > 1 or others is not null, images + repeated, 0)
            when 'duplicates disagree' then if(classed > 1, labelled + repeated, 0)
            when 'exact duplicate' then images + repeated
            when 'near duplicate' then compared
            when 'label issue' then judged
            when 'odd size' then images
            when 'odd shape' then images
            else properties
        end as n,
        case issue
            when 'leak between splits' then 'only one split is known: set data.split_column'
            when 'duplicates disagree' then 'no two labels to compare'
            when 'near duplicate' then 'too few properties were measured'
            when 'label issue' then if(classed < 2, 'no two labels to compare', 'needs cleanlab: pip install ''cfx-audit[quality]'', then audit again')
            else 'not measured on these images'
        end as missing
    from looked_at cross join checks
),
judged as (
    select
        run_id, place, issue, null::varchar as about, if(n > 0, coalesce(flagged, 0), null) as flagged, n,
        flagged / nullif(n, 0) as share, severe_from, threshold, source, missing
    from over_what left join counted using (run_id, issue)
),
graded as (
    select
        run_id, place, issue, about, flagged, n, if(flagged is null, null, coalesce(share, 0)) as share,
        case
            when flagged is null then 'not measured'
            when flagged = 0 then 'none'
            when share >= severe_from then 'severe'
            when share >= severe_from / 5 then 'moderate'
            else 'minor'
        end as severity,
        severe_from, threshold, source,
        if(flagged is null, missing, format('{:,} of {:,}', flagged, n)) as says
    from judged
),
refused as (
    select
        run_id, 20 as place, 'rejected' as issue, reason as about, count(*) as flagged, any_value(images + refused) as n,
        count(*) / any_value(images + refused) as share, .05 as severe_from,
        'refused before the audit: ' || reason as threshold, 'data.min_side, data.max_pixels, data.bits; what cannot be read' as source,
        format('{:,} of {:,} inputs, such as {}', count(*), any_value(images + refused), min(path)) as says
    from rejected join looked_at using (run_id)
    where reason not in ('duplicate', 'listed_twice') and stage <> 'regions'
    group by run_id, reason
),
labels as (
    select run_id, label, count(*) as images, sum(count(*)) over (partition by run_id) as n, count(*) over (partition by run_id) as classes
    from images where label is not null group by run_id, label
),
balance as (
    select
        run_id, arg_min(label, (images, label)) as about, min(images) as flagged, any_value(n)::bigint as n,
        min(images) * any_value(classes) / any_value(n) as share,
        format('{}: {:,} of {:,} images; {}: {:,}', arg_min(label, (images, label)), min(images), any_value(n), arg_max(label, (images, label)), max(images)) as says
    from labels group by run_id having any_value(classes) > 1
)
from graded
union all
select
    run_id, place, issue, about, flagged, n, share,
    case when share >= severe_from then 'severe' when share >= severe_from / 5 then 'moderate' else 'minor' end,
    severe_from, threshold, source, says
from refused
union all
select
    run_id, 30, 'class balance', about, flagged, n, share,
    case when share <= .1 then 'severe' when share <= .3 then 'moderate' when share <= .8 then 'minor' else 'none' end,
    .1, 'rarest class at a tenth of an even share', 'convention: ten to one', says
from balance;
