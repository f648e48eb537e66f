-- Regions of the images: can what lies in one change the answer, with nothing outside it changed? The move of P(target), guided minus
-- null, of explanations held to the region; how many flip; and the attribute that changes most there (`region_shifts`).
-- relies: the answer moves by more than the margin, and an attribute changes beyond the null, or the judge follows (a quarter of the
-- flips and a tenth of the images more than without guidance). suspected: it moves, but nothing that has a name changes, and no judge
-- follows: what was drawn may fool this classifier alone. unmoved: what was drawn there moves it by less than the margin, in enough images
-- to have seen more (3 / margin); that is so of what the prior draws, and says nothing of the rest. not enough: otherwise.
-- Over: runs with `regions`; explanations in a region and their nulls, flipped or not; metrics of whole images have none of them.
-- Columns:
--   region: its name in the configuration
--   flip_rate, null_flip_rate: share of the explanations that flip, and of their nulls
--   judge_flip_rate, null_judge_flip_rate: the same as the judge sees it; null without one
--   low, high: 95 % interval of flip_rate (Wilson 1927)
--   shift: mean move of P(target) by what is drawn in the region, guided minus null
--   shift_low, shift_high: 95 % interval of the former, simultaneous over the run's regions and attributes
--   attribute: the one whose change is largest, beyond the null where one is; null without an oracle
--   is_target: that attribute is the label itself
--   attribute_shift, attribute_low, attribute_high, attribute_status: of it, as in `region_shifts`
--   l1: mean |difference| inside the region, images on [0, 1]
--   region_fraction: mean share of the pixels that lie in the region
--   n: explanations; images: of so many images
--   verdict: relies, suspected, unmoved or not enough
--   why: in words
create view regions as
with counted as (
    select
        run_id, region, count(*) filter (arm = 'guided') as n, count(distinct image_id) as images,
        avg(flipped::int) filter (arm = 'guided') as flip_rate, avg(flipped::int) filter (arm = 'null') as null_flip_rate,
        avg(judge_flipped::int) filter (arm = 'guided') as judge_flip_rate,
        avg(judge_flipped::int) filter (arm = 'null') as null_judge_flip_rate,
        avg(l1 / region_fraction) filter (arm = 'guided') as l1, avg(region_fraction) filter (arm = 'guided') as region_fraction
    from region_explanations group by run_id, region
),
strongest as (
    select
        run_id, region, attribute, is_target, shift as attribute_shift, low as attribute_low, high as attribute_high,
        status as attribute_status
    from region_shifts
    where not is_answer
    qualify row_number() over (partition by run_id, region order by status <> 'above null', abs(shift) desc, attribute, target) = 1
),
named as (
    select run_id, region, bool_or(status = 'above null') as named
    from region_shifts where not is_answer group by run_id, region
),
moved as (
    select run_id, region, shift, low as shift_low, high as shift_high from region_shifts where is_answer
),
evidence as (
    select
        *, wilson(flip_rate, n, -1) as low, wilson(flip_rate, n, 1) as high,
        coalesce(
            judge_flip_rate >= .25 * flip_rate and judge_flip_rate - null_judge_flip_rate >= .1, false
        ) as followed,
        coalesce(shift_low > margin, false) as moves,
        coalesce(shift_low >= -margin and shift_high <= margin and images * margin >= 3, false) as still
    from counted
    left join moved using (run_id, region)
    left join strongest using (run_id, region)
    left join named using (run_id, region)
    join (select run_id, margin from runs) using (run_id)
)
select
    run_id, region,
    case when moves and (coalesce(named, false) or followed) then 'relies' when moves then 'suspected' when still then 'unmoved'
        else 'not enough' end as verdict,
    flip_rate, low, high, null_flip_rate, judge_flip_rate, null_judge_flip_rate, shift, shift_low, shift_high,
    attribute, is_target, attribute_shift, attribute_low, attribute_high, attribute_status, l1, region_fraction, n, images,
    case
        when moves and named and followed then 'what changes there has a name, and the judge follows'
        when moves and named then 'what changes there has a name' || if(judge_flip_rate is null, '', '; the judge does not follow')
        when moves and followed then 'the judge follows, though nothing that has a name changes there'
        when moves then if(
            judge_flip_rate is null, 'nothing that has a name changes there',
            'nothing that has a name changes there, and the judge does not follow: it may be this classifier alone that is fooled'
        )
        when still then format('what is drawn there moves the answer by less than {:.0f} points; what this prior does not draw was not tried', 100 * margin)
        when images * margin < 3 then format('{} images; about {:.0f} are needed to say that it does not matter', images, ceil(3 / margin))
        else 'the interval reaches from inside the margin beyond it; more images would narrow it'
    end as why
from evidence;
