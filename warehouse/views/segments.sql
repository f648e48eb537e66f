-- Which parts of the images decide the answer, as the user's masks have them: exchanged between images, as cells are in `places`.
-- Over: runs with `masks`, classes that enough of the images with masks are predicted, and are not.
-- Columns:
--   effect: mean move of P(class) towards the donor's class
--   low, high: 95 % interval of it
--   verdict: confirmed (decides, nothing named accounts for it, and its content goes with the answers beyond the label), suspected (decides, where nothing at all was named or the label accounts for its content), named (decides, by what was named), clear (the interval is under the run's margin) or inconclusive
create view segments as
with lone as (
    select
        s.*, margin, unnamed and coalesce(beyond_label, true) as alone,
        bool_or(len(attributes) > 0 or coalesce(oracle and beyond_label is not null, false)) over (partition by run_id) as has_names
    from segment_claims s join (select run_id, margin from runs) using (run_id)
)
select
    run_id, class, segment, effect, low, high, exchange, exchange_low, exchange_high, residual, unnamed, attributes, beyond_label,
    case
        when unnamed then if(has_names and alone, 'confirmed', 'suspected')
        when decides then 'named'
        when high <= margin and low >= -margin then 'clear'
        else 'inconclusive'
    end as verdict,
    n, exchange_n
from lone;
