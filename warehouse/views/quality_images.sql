-- What an auditor should look at before trusting a verdict, image by image: every image that a check of `quality` flags, the most
-- striking of each check first. Measured on the image as the classifier sees it; sizes and shapes are those of the files. Bounds in
-- themselves are those of CleanVision 0.3, read off mean and standard deviation of luma as if it were normal; an image that is odd
-- among those of its own run (modified z-score beyond 3.5, Iglewicz & Hoaglin 1993) needs to be less far out in itself.
-- Over: images of a run, and inputs that were rejected.
-- Columns:
--   issue: the check, as in `quality`
--   rank: the most striking of the run and check is 1
--   path: of the image; of one that was rejected, too
--   image_id: null for an input that was rejected
--   label: the class that the data set gives it
--   value: what was measured, in the unit of the check: see `threshold` in `quality`
--   other: the file that it repeats, or the class that the classifier says
--   why: in words
create macro modified_z(value, middle, deviation) as (  -- robust z-score (Iglewicz & Hoaglin 1993); null where more than half are alike
    0.6745 * (value - middle) / nullif(deviation, 0)
);
create view quality_images as
with measured as (
    select
        run_id, image_id,
        max(value) filter (name = 'm_brightness') as brightness, max(value) filter (name = 'm_contrast') as contrast,
        max(value) filter (name = 'm_sharpness') as sharpness
    from (unpivot (select run_id, image_id, columns('^m_') from properties) on columns('^m_') into name name value value)
    group by run_id, image_id
),
usual as (
    select
        run_id, median(brightness) as brightness, mad(brightness) as brightness_mad,
        median(sharpness) as sharpness, mad(sharpness) as sharpness_mad
    from measured group by run_id
),
looks as (
    select
        run_id, image_id, m.brightness, m.contrast, m.sharpness, usual.brightness as usual_brightness,
        usual.sharpness as usual_sharpness, m.brightness + 2.326 * m.contrast as lightest, m.brightness - 1.645 * m.contrast as darkest,
        coalesce(modified_z(m.brightness, usual.brightness, brightness_mad), 0) as brightness_z,
        coalesce(modified_z(m.sharpness, usual.sharpness, sharpness_mad), 0) as sharpness_z
    from measured m join usual using (run_id)
),
files as (
    select run_id, image_id, path, label, split, width, height, log2(width) + log2(height) as area, log2(width / height) as shape from images
),
usual_files as (
    select run_id, quantile_cont(area, [.25, .5, .75]) as areas, median(shape) as shape, mad(shape) as shape_mad
    from files group by run_id
),
copies as (  -- the same bytes: the first is audited, the others are rejected
    select r.run_id, r.path, r.label, r.split, f.path as other, f.label as other_label, f.split as other_split
    from (select *, regexp_extract(error, 'same bytes as (.*)$', 1) as first_path from rejected where reason = 'duplicate') r
    left join files f on (f.run_id, f.path) = (r.run_id, r.first_path)
),
near as (  -- each pair from both sides, once for every check that it concerns
    select
        run_id, unnest(['near duplicate', if(other_labels, 'duplicates disagree', null), if(across_splits, 'leak between splits', null)]) as issue,
        path, image_id, label, split, other, other_label, other_split, distance
    from (
        select
            run_id, distance, other_labels, across_splits,
            unnest([
                {'path': path, 'image_id': image_id, 'label': label, 'split': split, 'other': other_path, 'other_label': other_label, 'other_split': other_split},
                {'path': other_path, 'image_id': other_id, 'label': other_label, 'split': other_split, 'other': path, 'other_label': label, 'other_split': split}
            ], recursive := true)
        from near_duplicates
    )
),
flagged as (
    select
        run_id, 'exact duplicate' as issue, path, null::varchar as image_id, label, 0::double as value, other,
        'the same bytes as ' || coalesce(other, 'another file') || ', which is audited' as why
    from copies
    union all
    select run_id, 'exact duplicate', path, null, label, 0, null, error from rejected where reason = 'listed_twice'
    union all
    select
        run_id, issue, path, image_id, label, distance, other,
        case issue
            when 'near duplicate' then 'nearly the same image as ' || other
            when 'duplicates disagree' then format('nearly the same image as {}, but “{}”, not “{}”', other, label, other_label)
            else format('{}, and nearly the same image in {}: {}', split, other_split, other)
        end
    from near where issue is not null
    union all
    select run_id, 'duplicates disagree', path, null, label, 0, other, format('the same bytes as {}, but “{}”, not “{}”', other, label, other_label)
    from copies where label <> other_label
    union all
    select run_id, 'leak between splits', path, null, label, 0, other, format('{}, and the same bytes in {}: {}', split, other_split, other)
    from copies where split <> other_split
    union all
    select run_id, 'leak between splits', path, image_id, label, 0, twin, format('the same file in {}: {}', other_split, twin)
    from (select run_id, other_split, unnest(paths) as path, unnest(twins) as twin from shared_files) join files using (run_id, path)
    union all
    select
        run_id, 'label issue', path, image_id, label, quality, suggested,
        format('labelled “{}”, which the classifier gives {:.1f}%; it says “{}”', label, 100 * quality, suggested)
    from label_issues join (select run_id, image_id, path from files) using (run_id, image_id)
    where issue
    union all
    select
        run_id, 'odd size', path, image_id, label, power(2, (area - areas[2]) / 2), null,
        format('{} x {} pixels: a side of {:.1f} times the usual', width, height, power(2, (area - areas[2]) / 2))
    from files join usual_files using (run_id)
    where abs(area - areas[2]) >= 2 and (area > areas[3] + 3 * (areas[3] - areas[1]) or area < areas[1] - 3 * (areas[3] - areas[1]))
    union all
    select
        run_id, 'odd shape', path, image_id, label, power(2, -abs(f.shape)), null,
        format('{} x {} pixels: {:.2f} times as wide as high', width, height, power(2, f.shape))
    from files f join usual_files u using (run_id)
    where power(2, -abs(f.shape)) < .35
        or abs(f.shape - u.shape) > .585 and abs(coalesce(modified_z(f.shape, u.shape, shape_mad), 9)) > 3.5
    union all
    select
        run_id, 'blurred', path, image_id, label, sharpness, null,
        format('sharpness {:.2f}, usually {:.2f}', sharpness, usual_sharpness)
    from looks join files using (run_id, image_id)
    where contrast >= .0076 and (sharpness < .3 or sharpness_z < -3.5 and sharpness < .5)
    union all
    select
        run_id, 'dark', path, image_id, label, brightness, null,
        format('mean luma {:.2f}, usually {:.2f}', brightness, usual_brightness)
    from looks join files using (run_id, image_id)
    where lightest < .32 or brightness_z < -3.5 and brightness < .25
    union all
    select
        run_id, 'bright', path, image_id, label, brightness, null,
        format('mean luma {:.2f}, usually {:.2f}', brightness, usual_brightness)
    from looks join files using (run_id, image_id)
    where darkest > .95 or brightness_z > 3.5 and brightness > .8
    union all
    select run_id, 'low information', path, image_id, label, contrast, null, format('nearly one tone: standard deviation of luma {:.4f}', contrast)
    from looks join files using (run_id, image_id)
    where contrast < .0076
),
nearest as (  -- one row an image and check
    select
        run_id, issue, path, any_value(image_id) as image_id, any_value(label) as label,
        arg_min(value, (value, other)) as value, arg_min(other, (value, other)) as other, arg_min(why, (value, other)) as why
    from flagged group by run_id, issue, path
)
select
    run_id, issue,
    row_number() over (
        partition by run_id, issue
        order by case issue when 'bright' then -value when 'odd size' then -abs(log2(value)) else value end, path
    )::int as rank,
    path, image_id, label, value, other, why
from nearest;
