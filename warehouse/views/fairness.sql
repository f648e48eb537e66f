-- How differently the classifier treats images with an attribute and those without: a gap is the rate with it minus the rate without.
-- selection rate: the demographic parity difference. true and false positive rate: their differences. error rate: of all images.
-- equalized odds: the larger of the last two, in size (Hardt et al. 2016, arXiv:1610.02413); of more than two classes the largest
-- difference of any label's recall. Sizes are those of Fairlearn. Of two classes the second is the positive one; of more, each is,
-- against all others. Rates over fewer than 20 images are withheld. A gap is an association: the groups may differ in more than the
-- attribute; what the attribute alone does is in `interventions`.
-- Over: images as in `group_counts`, all but selection rates of those with a label; not the target attribute.
-- Columns:
--   known_by: annotation or oracle: how it is known who has the attribute
--   measure: selection rate, true positive rate, false positive rate, error rate or equalized odds
--   class: the class that is the positive one; equalized odds: the label whose recall differs most; null for all
--   rate_with, rate_without: the rate among images with the attribute, and among those without; equalized odds: that recall
--   value: rate_with minus rate_without; equalized odds: the size of the largest difference
--   low, high: 95 % interval of value (Newcombe 1998, method 10; equalized odds: simultaneous over labels, Bonferroni)
--   n: images that the two rates are over
--   n_with, n_without: images with and without it that the rates are over
--   reported: both are at least 20
--   withheld: equalized odds: labels with too few images, which count nowhere in it
create macro newcombe(a, n_a, b, n_b, side, z := 1.959964) as (  -- end of the interval of a - b, shares of n_a and n_b (Newcombe 1998, method 10); side: -1 low, 1 high
    a - b + side * sqrt(power(wilson(a, n_a, side, z := z) - a, 2) + power(b - wilson(b, n_b, -side, z := z), 2))
);
create macro upper_normal(p) as (  -- z that a normal variate exceeds with probability p <= .5, to .00045 (Abramowitz and Stegun 26.2.23)
    list_transform([sqrt(-2 * ln(p))], lambda t:
        t - (2.515517 + .802853 * t + .010328 * t * t) / (1 + 1.432788 * t + .189269 * t * t + .001308 * t * t * t)
    )[1]
);
create view fairness as
with counted as (
    select group_counts.* from group_counts join (select run_id, target_attribute from runs) using (run_id)
    where attribute is distinct from target_attribute
),
totals as (
    select
        run_id, attribute, any_value(known_by) as known_by,
        coalesce(sum(n) filter (present), 0) as images_with, coalesce(sum(n) filter (not present), 0) as images_without,
        coalesce(sum(n) filter (present and label is not null), 0) as labelled_with,
        coalesce(sum(n) filter (not present and label is not null), 0) as labelled_without,
        coalesce(sum(n) filter (present and label <> class), 0) as errors_with,
        coalesce(sum(n) filter (not present and label <> class), 0) as errors_without
    from counted group by run_id, attribute
),
counts as (
    -- Each image counts for the class that is predicted, and for the one that is its label.
    select run_id, attribute, class as positive, present, n as selected, if(label is not null, n, 0) as judged, if(label = class, n, 0) as hits, 0 as positives
    from counted
    union all
    select run_id, attribute, label, present, 0, 0, 0, n from counted where label is not null
),
crossed as (
    select
        run_id, attribute, positive,
        coalesce(sum(selected) filter (present), 0) as selected_with, coalesce(sum(selected) filter (not present), 0) as selected_without,
        coalesce(sum(judged) filter (present), 0) as judged_with, coalesce(sum(judged) filter (not present), 0) as judged_without,
        coalesce(sum(hits) filter (present), 0) as hits_with, coalesce(sum(hits) filter (not present), 0) as hits_without,
        coalesce(sum(positives) filter (present), 0) as positives_with, coalesce(sum(positives) filter (not present), 0) as positives_without
    from counts group by run_id, attribute, positive
),
shares as (
    select
        run_id, attribute, 'selection rate' as measure, positive as class,
        selected_with as k_with, images_with as n_with, selected_without as k_without, images_without as n_without
    from crossed join totals using (run_id, attribute)
    union all
    select run_id, attribute, 'true positive rate', positive, hits_with, positives_with, hits_without, positives_without from crossed
    union all
    select
        run_id, attribute, 'false positive rate', positive, judged_with - hits_with, labelled_with - positives_with,
        judged_without - hits_without, labelled_without - positives_without
    from crossed join totals using (run_id, attribute)
    union all
    select run_id, attribute, 'error rate', null, errors_with, labelled_with, errors_without, labelled_without from totals
),
rates as (
    select
        run_id, attribute, measure, class, n_with::bigint as n_with, n_without::bigint as n_without,
        least(n_with, n_without) >= smallest_group() as reported,
        if(reported, k_with / n_with, null) as rate_with, if(reported, k_without / n_without, null) as rate_without,
        rate_with - rate_without as value
    from shares
    where n_with + n_without > 0
),
recalls as (
    select rates.*, upper_normal(.025 / count(*) over (partition by run_id, attribute)) as z
    from rates where measure = 'true positive rate'
),
sizes as (
    select
        *, newcombe(rate_with, n_with, rate_without, n_without, -1, z := z) as down, newcombe(rate_with, n_with, rate_without, n_without, 1, z := z) as up
    from recalls
),
odds as (
    select
        run_id, attribute, 'equalized odds' as measure, arg_max(class, (abs(value), class)) filter (reported) as class,
        arg_max(rate_with, (abs(value), class)) filter (reported) as rate_with,
        arg_max(rate_without, (abs(value), class)) filter (reported) as rate_without, max(abs(value)) as value,
        max(greatest(down, -up, 0)) filter (reported) as low, max(greatest(abs(down), abs(up))) as high,
        sum(n_with)::bigint as n_with, sum(n_without)::bigint as n_without, bool_or(reported) as reported,
        count_if(not reported) as withheld
    from sizes group by run_id, attribute
),
gaps as (
    select
        run_id, attribute, measure, class, rate_with, rate_without, value,
        newcombe(rate_with, n_with, rate_without, n_without, -1) as low, newcombe(rate_with, n_with, rate_without, n_without, 1) as high,
        n_with, n_without, reported, null::bigint as withheld
    from rates join (select run_id, classes from runs) using (run_id)
    where len(classes) <> 2 or class is null or class = classes[2]
    union all by name
    from odds
)
select
    run_id, attribute, known_by, measure, class, rate_with, rate_without, value, low, high, n_with + n_without as n, n_with, n_without,
    reported, withheld
from gaps join (select run_id, attribute, known_by from totals) using (run_id, attribute);
