-- Which places of the image decide the answer, cells of `place_cells` gathered into zones: nine, and the frame where cells on three
-- sides or more decide and none inside.
-- Over: runs whose classifier predicts more than one class.
-- Columns:
--   zone: top left … bottom right, centre, or frame
--   effect: of the zone's strongest cell, the unnamed ones first, of them those beyond the label: mean move of P(class) towards the donor's class
--   low, high: 95 % interval of it
--   exchange, exchange_low, exchange_high: what decides in that cell and those that touch it, exchanged between images that carry it and images that do not, with 95 % interval; null where it was not asked. The effect understates it: of two images that are answered differently, not every pair differs there
--   residual: what is left of it without the named attributes
--   place, grid: that strongest cell, row by row from 0, and the cells along a side of the map
--   cells: cells of the zone that decide
--   unnamed: cells of the zone that decide for a reason without a name
--   attributes: named attributes that lie in its deciding cells
--   beyond_label: what is in that cell goes with the answers more than the label accounts for; null where no image has a label
--   verdict: confirmed (decides, nothing named accounts for it, and its content goes with the answers beyond the label; where no attribute was named only in a corner of the image, where subjects seldom are), suspected (decides, where nothing at all was named or the label accounts for its content), named (decides, by what was named), clear (every interval under the run's margin) or inconclusive
create view places as
with cells as (
    select c.*, margin, place // grid as r, place % grid as k
    from place_cells c join (select run_id, margin from runs) using (run_id)
),
bordered as (
    select
        *,
        r in (0, grid - 1) or k in (0, grid - 1) as rim,
        bool_or(len(attributes) > 0 or coalesce(oracle and beyond_label is not null, false)) over (partition by run_id) as has_names,
        unnamed and coalesce(beyond_label, true) as lone,
        count_if(unnamed and not rim) over here as inner_cells,
        bool_or(unnamed and r = 0) over here::int + bool_or(unnamed and r = grid - 1) over here::int
            + bool_or(unnamed and k = 0) over here::int + bool_or(unnamed and k = grid - 1) over here::int as sides
    from cells
    window here as (partition by run_id, class)
),
zoned as (
    select
        *,
        ['top', 'middle', 'bottom'][1 + (3 * (r + .5) > grid)::int + (3 * (r + .5) > 2 * grid)::int] as row_word,
        ['left', 'centre', 'right'][1 + (3 * (k + .5) > grid)::int + (3 * (k + .5) > 2 * grid)::int] as column_word,
        case
            when sides >= 3 and inner_cells = 0 and unnamed then 'frame'
            when row_word = 'middle' and column_word = 'centre' then 'centre'
            else row_word || ' ' || column_word
        end as zone,
        unnamed and rim and coalesce(beyond_label, false) and row_word <> 'middle' and column_word <> 'centre' as cornered
    from bordered
),
gathered as (
    select
        run_id, class, zone, margin,
        arg_max(effect, weight) as effect, arg_max(low, weight) as low, arg_max(high, weight) as high,
        arg_max({'exchange': exchange, 'low': exchange_low, 'high': exchange_high, 'n': exchange_n}, weight) as whole,
        arg_max(residual, weight) as residual, arg_max(n, weight) as n, arg_max(place, weight) as place, any_value(grid) as grid,
        arg_max(beyond_label, weight) as beyond_label, bool_or(lone) as lone, bool_or(cornered) as cornered,
        count_if(decides)::int as cells, count_if(unnamed)::int as unnamed,
        list_sort(list_distinct(flatten(coalesce(list(attributes) filter (decides), [])))) as attributes,
        max(high) as highest, min(low) as lowest, any_value(has_names) as has_names
    from (select *, effect + 2 * unnamed::int + 2 * lone::int as weight from zoned)
    group by run_id, class, zone, margin
)
select
    run_id, class, zone, effect, low, high, whole.exchange, whole.low as exchange_low, whole.high as exchange_high, residual, place, grid, cells, unnamed, attributes, beyond_label,
    case
        when unnamed > 0 then if((has_names and lone) or cornered, 'confirmed', 'suspected')
        when cells > 0 then 'named'
        when highest <= margin and lowest >= -margin then 'clear'
        else 'inconclusive'
    end as verdict,
    n, whole.n as exchange_n
from gathered;
