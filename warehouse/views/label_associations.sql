-- How each annotated attribute goes with each label of the images: what a classifier could have learned instead of the label.
-- Of two labels only the one that the attribute goes with, because the other is its mirror. Over: images with a label and that
-- annotation, those alone that the run audits.
-- Columns:
--   phi: Pearson's correlation of "has this label" and "has the attribute", -1 to 1; 0 where one of the two is constant
--   lift: share of the attribute among images of this label, over its share among all; null where no image has it
--   n: images
create view label_associations as
with known as (
    select run_id, name[3:] as attribute, label, present::int as present
    from (
        unpivot (select run_id, label, columns('^a_') from images where label is not null)
        on columns('^a_') into name name value present
    )
),
counted as (
    select run_id, attribute, label, count(*) as labelled, sum(present) as together from known group by run_id, attribute, label
),
crossed as (
    select
        run_id, attribute, label, labelled::double as labelled, together::double as together,
        (sum(labelled) over whole)::double as n, (sum(together) over whole)::double as has, count(*) over whole as labels
    from counted
    window whole as (partition by run_id, attribute)
)
select
    run_id, label, attribute,
    coalesce((n * together - labelled * has) / nullif(sqrt(labelled * (n - labelled) * has * (n - has)), 0), 0) as phi,
    together * n / nullif(labelled * has, 0) as lift, n::bigint as n
from crossed
qualify labels <> 2 or row_number() over (partition by run_id, attribute order by phi desc, label) = 1;
